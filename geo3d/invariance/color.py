"""Changes of colour: another exposure, another white, noise, or no colour at all."""

from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.checks import Range, Share, checked
from geo3d.cloud import with_
from geo3d.geometry.per_cloud import by_cloud
from geo3d.invariance.base import Invariance
from geo3d.invariance.draws import uniform

Amount = Annotated[float, Range(0, 1)]


class ColorChange(NamedTuple):
    """What happens to the colours of each cloud."""

    gain: Tensor
    """(B, 3) factors"""
    shift: Tensor
    """(B, 3)"""
    noise: Tensor
    """(M, 3)"""


class ColorJitter(Invariance):
    """Change ``rgb`` as another camera and another light would: brightness, tint and noise.

    Colours stay between 0 and 1. Clouds without ``rgb`` stay as they are.

    Args:
        brightness: All channels of a cloud are multiplied by one factor between 1 - brightness and 1 + brightness.
        tint: Each channel is shifted by up to this much.
        noise: Standard deviation of noise on every point.
    """

    @checked
    def __init__(self, brightness: Amount = 0.3, tint: Amount = 0.05, noise: Amount = 0.02) -> None:
        self.brightness, self.tint, self.noise = brightness, tint, noise

    def sample(self, batch: Batch, generator: torch.Generator) -> ColorChange:
        """Gain and shift for each cloud, noise for each point."""
        gain = uniform(batch, generator, 1, low=1 - self.brightness, high=1 + self.brightness).expand(-1, 3)
        shift = uniform(batch, generator, 3, low=-self.tint, high=self.tint)
        noise = torch.randn(batch.pos.shape, generator=generator, device=generator.device) * self.noise
        return ColorChange(gain.to(batch.pos.dtype), shift.to(batch.pos.dtype), noise.to(batch.pos))

    def act(self, element: ColorChange, batch: Batch) -> Batch:
        """The clouds with other colours."""
        rgb = batch.get("rgb")
        if rgb is None:
            return batch
        changed = by_cloud(torch.add, by_cloud(torch.mul, rgb, element.gain, batch), element.shift, batch)
        return with_(batch, rgb=(changed + element.noise).clamp(0, 1))


class ColorDrop(Invariance):
    """Turn all colours of a cloud to a middle grey, with a probability; the element is (B,) bool.

    Features learned with it do not need colours. Clouds without ``rgb`` stay as they are.

    Args:
        probability: Of dropping the colours of a cloud.
    """

    @checked
    def __init__(self, probability: Share = 0.2) -> None:
        self.probability = probability

    def sample(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """(B,) whether each cloud loses its colours."""
        return uniform(batch, generator) < self.probability

    def act(self, element: Tensor, batch: Batch) -> Batch:
        """The clouds, some of them grey."""
        rgb = batch.get("rgb")
        if rgb is None:
            return batch
        return with_(batch, rgb=torch.where(element[batch.batch, None], torch.full_like(rgb, 0.5), rgb))
