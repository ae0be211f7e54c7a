"""Random draws for each cloud of a batch."""

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.cloud import num_clouds


def uniform(batch: Batch, generator: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """(B, *shape) float64 numbers, uniform in [low, high), drawn on the generator's device, moved to the batch's."""
    size = (num_clouds(batch), *shape)
    drawn = torch.rand(size, generator=generator, device=generator.device, dtype=torch.float64)
    return (low + (high - low) * drawn).to(batch.pos.device)


def directions(batch: Batch, generator: torch.Generator) -> Tensor:
    """(B, 3) unit vectors, uniform over the sphere, in the dtype of the points."""
    drawn = torch.randn(num_clouds(batch), 3, generator=generator, device=generator.device, dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=1).to(batch.pos)


def random_points(batch: Batch, generator: torch.Generator) -> Tensor:
    """(B,) flat index of one uniformly drawn point of each cloud."""
    sizes = batch.ptr.diff()
    return batch.ptr[:-1] + (uniform(batch, generator) * sizes).long().minimum(sizes - 1)
