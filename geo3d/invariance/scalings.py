"""Scaling and mirroring: maps that multiply each coordinate by a factor."""

import math
from typing import Annotated, Any

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.checks import Like, Range, checked, ordered
from geo3d.cloud import map_fields, num_clouds
from geo3d.geometry.per_cloud import on_field
from geo3d.geometry.rotation import unit_vectors
from geo3d.invariance.base import Group
from geo3d.invariance.draws import uniform

Factor = Annotated[float, Range(1e-3, 1e3)]
"""Normals need products of three factors; with these bounds they stay far within float32's range."""
Axes = Annotated[str, Like(r"(?!.*(.).*\1)[xyz]{1,3}", "different letters of xyz, for example xy")]


class Diagonal(Group):
    """A group of diagonal matrices that act about the origin; the element is their diagonals (B, 3), without zeros."""

    def act(self, element: Tensor, batch: Batch) -> Batch:
        """The clouds with each coordinate multiplied; normals stay perpendicular and keep pointing outwards."""
        scale = on_field(torch.mul, element, batch)
        return map_fields(batch, {"position": scale, "displacement": scale} | self._directions(element, batch))

    def _directions(self, element: Tensor, batch: Batch) -> dict[str, Any]:
        """The function that maps directions, such as normals."""
        x, y, z = element.unbind(1)
        # cofactors, with the sign of the determinant: a positive multiple of the inverse transpose
        factors = torch.stack([y * z, z * x, x * y], 1) * (x * y * z).sign()[:, None]
        scale = on_field(torch.mul, factors, batch)
        return {"direction": lambda values, field: unit_vectors(scale(values, field).view(-1, 3)).view(values.shape)}

    def compose(self, a: Tensor, b: Tensor) -> Tensor:
        """The products of the factors."""
        return a * b

    def inverse(self, a: Tensor) -> Tensor:
        """The reciprocals."""
        return 1 / a

    def identity(self, batch: Batch) -> Tensor:
        """Factors of one."""
        return batch.pos.new_ones(num_clouds(batch), 3)


class AnisotropicScale(Diagonal):
    """Scaling by separate factors along x, y and z; the element is (B, 3).

    Factors are log-uniform, so that growing and shrinking by the same ratio are equally likely.

    Args:
        low: Smallest factor, above 0.
        high: Largest factor.
    """

    @checked
    def __init__(self, low: Factor = 0.8, high: Factor = 1.25) -> None:
        ordered(self, "low", "high", low, high)
        self.low = low
        self.high = high

    def sample(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """(B, 3) factors."""
        return _log_uniform(batch, generator, 3, self.low, self.high)


class Scale(Diagonal):
    """Scaling by the same log-uniform factor in all directions; the element is (B, 3), with three equal factors.

    Args:
        low: Smallest factor, above 0.
        high: Largest factor.
    """

    @checked
    def __init__(self, low: Factor = 0.8, high: Factor = 1.25) -> None:
        ordered(self, "low", "high", low, high)
        self.low = low
        self.high = high

    def sample(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """(B, 3) factors."""
        return _log_uniform(batch, generator, 1, self.low, self.high).expand(-1, 3)

    def _directions(self, element: Tensor, batch: Batch) -> dict[str, Any]:
        return {}  # uniform scaling does not change directions


class Reflection(Diagonal):
    """Mirroring along some axes, each with probability one half; the element is (B, 3) signs.

    Args:
        axes: Some of the letters x, y, z: the coordinates whose sign may change.
    """

    @checked
    def __init__(self, axes: Axes = "xy") -> None:
        self.axes = axes

    def sample(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """(B, 3) signs 1 or -1, always 1 for the axes that are not in ``axes``."""
        free = torch.tensor([axis in self.axes for axis in "xyz"], device=batch.pos.device)
        flip = free & (uniform(batch, generator, 3) < 0.5)
        return 1 - 2 * flip.to(batch.pos.dtype)


def _log_uniform(batch: Batch, generator: torch.Generator, count: int, low: float, high: float) -> Tensor:
    return uniform(batch, generator, count, low=math.log(low), high=math.log(high)).exp().to(batch.pos.dtype)
