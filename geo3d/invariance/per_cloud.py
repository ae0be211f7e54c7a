"""What is drawn, measured and ordered cloud by cloud, without a loop over the clouds."""

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.cloud import num_clouds


def uniform(batch: Batch, generator: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """(B, *shape) float64 numbers, uniform in [low, high), drawn on the generator's device, given on the batch's."""
    size = (num_clouds(batch), *shape)
    drawn = torch.rand(size, generator=generator, device=generator.device, dtype=torch.float64)
    return (low + (high - low) * drawn).to(batch.pos.device)


def directions(batch: Batch, generator: torch.Generator) -> Tensor:
    """(B, 3) unit vectors, uniform over the sphere, in the type of the points."""
    drawn = torch.randn(num_clouds(batch), 3, generator=generator, device=generator.device, dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=1).to(batch.pos)


def random_keys(batch: Batch, generator: torch.Generator) -> Tensor:
    """(M,) float64 numbers, uniform in [0, 1), one a point; ties are next to impossible."""
    m = batch.pos.shape[0]
    drawn = torch.rand(m, generator=generator, device=generator.device, dtype=torch.float64)
    return drawn.to(batch.pos.device)


def random_points(batch: Batch, generator: torch.Generator) -> Tensor:
    """(B,) the flat index of one uniformly drawn point of each cloud."""
    sizes = batch.ptr.diff()
    return batch.ptr[:-1] + (uniform(batch, generator) * sizes).long().minimum(sizes - 1)


def reduce_clouds(values: Tensor, batch: Batch, how: str) -> Tensor:
    """(B, ...) the ``"mean"``, ``"min"`` or ``"max"`` over each cloud's rows of ``values (M, ...)``."""
    return torch.segment_reduce(values.contiguous(), how, offsets=batch.ptr)


def order_within(keys: Tensor, batch: Batch) -> Tensor:
    """(M,) flat indices grouped by cloud, each cloud's points by rising key; ties go to the lower index.

    Args:
        keys: (M,) numbers >= 0.
        batch: The clouds.
    """
    # The bits of numbers >= 0 rise with the numbers, and torch sorts whole numbers several times faster.
    order = keys.double().view(torch.int64).argsort(stable=True)
    return order[batch.batch[order].argsort(stable=True)]
