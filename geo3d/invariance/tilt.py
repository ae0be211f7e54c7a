"""Small tilts: the up axis is nearly, but not exactly, known."""

import math
from typing import Annotated

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.checks import Range, checked
from geo3d.cloud import num_clouds
from geo3d.geometry.rotation import rotate
from geo3d.invariance.base import Invariance
from geo3d.invariance.draws import uniform


class Tilt(Invariance):
    """Rotate each cloud by a small angle about a random horizontal axis; the element is (B, 3, 3).

    The angle is uniform between 0 and ``max_angle``.

    Args:
        max_angle: Largest angle, in degrees.
    """

    @checked
    def __init__(self, max_angle: Annotated[float, Range(0, 180)] = 3.0) -> None:
        self.max_angle = max_angle

    def sample(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """(B, 3, 3) rotations."""
        angle = uniform(batch, generator, high=math.radians(self.max_angle))
        around = uniform(batch, generator, high=2 * math.pi)
        x, y, c, s = around.cos(), around.sin(), angle.cos(), angle.sin()
        rows = [
            (c + x * x * (1 - c), x * y * (1 - c), y * s),
            (x * y * (1 - c), c + y * y * (1 - c), -x * s),
            (-y * s, x * s, c),
        ]
        matrix = torch.stack([torch.stack(row, 1) for row in rows], 1)
        return matrix.view(num_clouds(batch), 3, 3).to(batch.pos.dtype)

    def act(self, element: Tensor, batch: Batch) -> Batch:
        """The clouds rotated."""
        return rotate(element, batch)
