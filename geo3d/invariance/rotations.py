"""Rotations: all of them, or those about one axis."""

import math
from typing import Annotated

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.checks import OneOf, checked
from geo3d.cloud import num_clouds
from geo3d.geometry.rotation import random_rotations, rotate, rotation_about_axis
from geo3d.invariance.base import Group
from geo3d.invariance.draws import uniform


class SO3(Group):
    """All rotations about the origin, drawn uniformly; the element is (B, 3, 3)."""

    def sample(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """(B, 3, 3) rotations."""
        return random_rotations(num_clouds(batch), generator, batch.pos.dtype).to(batch.pos.device)

    def act(self, element: Tensor, batch: Batch) -> Batch:
        """The clouds rotated."""
        return rotate(element, batch)

    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        """The matrix products."""
        return a @ b

    def inverse(self, a: Tensor) -> Tensor:
        """The transposes."""
        return a.mT

    def identity(self, batch: Batch) -> Tensor:
        """Unit matrices."""
        return torch.eye(3).to(batch.pos).repeat(num_clouds(batch), 1, 1)


class SO2(Group):
    """Rotations about one axis through the origin, drawn uniformly; the element is (B,) angles in radians.

    Args:
        axis: ``"x"``, ``"y"`` or ``"z"``; geo3d's clouds stand upright along z.
    """

    @checked
    def __init__(self, axis: Annotated[str, OneOf("x", "y", "z")] = "z") -> None:
        self.axis = axis

    @property
    def name(self) -> str:
        """SO2, with the axis if it is not z."""
        return "SO2" if self.axis == "z" else f"SO2({self.axis})"

    def sample(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """(B,) angles from 0 to 2 pi."""
        return uniform(batch, generator, high=2 * math.pi).to(batch.pos.dtype)

    def act(self, element: Tensor, batch: Batch) -> Batch:
        """The clouds rotated."""
        return rotate(rotation_about_axis(element, self.axis), batch)

    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        """The sums of the angles."""
        return a + b

    def inverse(self, a: Tensor) -> Tensor:
        """The opposite angles."""
        return -a

    def identity(self, batch: Batch) -> Tensor:
        """Angles of zero."""
        return batch.pos.new_zeros(num_clouds(batch))
