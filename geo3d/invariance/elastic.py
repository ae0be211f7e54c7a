"""Elastic distortion: space bends smoothly."""

import math
from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.checks import Distance, Range, checked
from geo3d.cloud import with_
from geo3d.geometry.per_cloud import by_cloud
from geo3d.invariance.base import Invariance
from geo3d.invariance.draws import directions, uniform


class Waves(NamedTuple):
    """The plane waves that shift the points of each cloud."""

    vector: Tensor
    """(B, W, 3) direction and angular frequency of each wave."""
    shift: Tensor
    """(B, W, 3) the shift at its crest."""
    phase: Tensor
    """(B, W)"""


class Elastic(Invariance):
    """Shift the points of each cloud by a smooth random field, a sum of plane waves.

    Normals and joints do not change. Each coordinate of the shift has the standard deviation ``std`` over space. Smooth
    random grids, as scene pretraining uses, have the same effect; waves need no grid, and so no bounds.

    Args:
        std: Standard deviation of the shift along each axis, in units of the cloud.
        wavelength: Smallest wavelength, in the same units; each wave's is up to twice as long.
        waves: Number of waves.
    """

    @checked
    def __init__(
        self,
        std: Distance = 0.03,
        wavelength: Annotated[float, Range(0, 1e6, above=True)] = 1.0,
        waves: Annotated[int, Range(1, 64)] = 6,
    ) -> None:
        self.std, self.wavelength, self.waves = std, wavelength, waves

    def sample(self, batch: Batch, generator: torch.Generator) -> Waves:
        """The waves of each cloud."""
        ways = torch.stack([directions(batch, generator) for _ in range(self.waves)], 1)
        shift = torch.stack([directions(batch, generator) for _ in range(self.waves)], 1)
        length = self.wavelength * uniform(batch, generator, self.waves, low=1.0, high=2.0)
        phase = uniform(batch, generator, self.waves, high=2 * math.pi)
        # sin^2 has the mean 1/2, and a unit vector's coordinate the mean square 1/3
        height = self.std * math.sqrt(6 / self.waves)
        frequency = (2 * math.pi / length).to(ways.dtype)
        return Waves(ways * frequency[:, :, None], height * shift, phase.to(ways.dtype))

    def act(self, element: Waves, batch: Batch) -> Batch:
        """The clouds with all points shifted."""
        pos = batch.pos
        moved = pos
        for number in range(element.phase.shape[1]):
            along = by_cloud(torch.mul, pos, element.vector[:, number], batch).sum(1, keepdim=True)
            wave = by_cloud(torch.add, along, element.phase[:, number, None], batch).sin()
            moved = moved + by_cloud(torch.mul, wave.expand_as(pos).contiguous(), element.shift[:, number], batch)
        return with_(batch, pos=moved)
