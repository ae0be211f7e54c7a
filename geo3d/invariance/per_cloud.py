"""What is drawn, measured and moved cloud by cloud, without a loop over the clouds.

Clouds of one size are looked at as (B, N, ...) tensors, which takes no index; others go by their offsets.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.cloud import common_size, num_clouds


def uniform(batch: Batch, generator: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """(B, *shape) float64 numbers, uniform in [low, high), drawn on the generator's device, given on the batch's."""
    size = (num_clouds(batch), *shape)
    drawn = torch.rand(size, generator=generator, device=generator.device, dtype=torch.float64)
    return (low + (high - low) * drawn).to(batch.pos.device)


def directions(batch: Batch, generator: torch.Generator) -> Tensor:
    """(B, 3) unit vectors, uniform over the sphere, in the type of the points."""
    drawn = torch.randn(num_clouds(batch), 3, generator=generator, device=generator.device, dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=1).to(batch.pos)


def random_points(batch: Batch, generator: torch.Generator) -> Tensor:
    """(B,) the flat index of one uniformly drawn point of each cloud."""
    sizes = batch.ptr.diff()
    return batch.ptr[:-1] + (uniform(batch, generator) * sizes).long().minimum(sizes - 1)


def reduce_clouds(values: Tensor, batch: Batch, how: str) -> Tensor:
    """(B, ...) the ``"mean"``, ``"min"`` or ``"max"`` over each cloud's rows of ``values (M, ...)``."""
    n = common_size(batch)
    if n is None:
        return torch.segment_reduce(values.contiguous(), how, offsets=batch.ptr)
    columns = values.reshape(num_clouds(batch), n, -1).mT.contiguous()  # torch is fast along the last dimension
    reduce: dict[str, Any] = {"mean": torch.mean, "min": torch.amin, "max": torch.amax}
    return reduce[how](columns, -1).reshape(-1, *values.shape[1:])


def by_cloud(function: Callable[[Tensor, Tensor], Tensor], values: Tensor, rows: Tensor, batch: Batch) -> Tensor:
    """(M, C) ``function``, such as ``torch.add``, of each point's ``values (M, C)`` and its cloud's ``rows (B, C)``."""
    n = common_size(batch)
    if n is None:
        return function(values, rows.contiguous().index_select(0, batch.batch))
    k = math.gcd(n, 16)  # rows of a few numbers make poor inner loops; many points at a time are several times as fast
    blocks = values.reshape(len(rows), n // k, -1)
    return function(blocks, rows.repeat(1, k)[:, None]).view(values.shape)
