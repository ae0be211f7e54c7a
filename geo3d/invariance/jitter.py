"""Noise on the coordinates."""

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.checks import Distance, checked
from geo3d.cloud import with_
from geo3d.invariance.base import Invariance


class Jitter(Invariance):
    """Add clipped Gaussian noise to every coordinate; the element is the noise (M, 3).

    Normals and joints do not change.

    Args:
        std: Standard deviation before clipping, in the units of the cloud.
        clip: Largest absolute noise of a coordinate, in the same units.
    """

    @checked
    def __init__(self, std: Distance = 0.01, clip: Distance = 0.05) -> None:
        self.std, self.clip = std, clip

    def sample(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """(M, 3) noise."""
        drawn = torch.randn(batch.pos.shape, generator=generator, device=generator.device, dtype=batch.pos.dtype)
        return drawn.mul_(self.std).clamp_(-self.clip, self.clip).to(batch.pos.device)

    def act(self, element: Tensor, batch: Batch) -> Batch:
        """The noisy clouds."""
        return with_(batch, pos=batch.pos + element)
