"""Reductions and elementwise operations cloud by cloud, without a loop over the clouds.

Clouds of one size are viewed as (B, N, ...) tensors, which needs no index. Clouds of several sizes use the offsets
``ptr`` or the index ``batch``.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.cloud import Field, common_size, num_clouds


def reduce_clouds(values: Tensor, batch: Batch, how: str) -> Tensor:
    """(B, ...) the ``"mean"``, ``"min"`` or ``"max"`` over each cloud's rows of ``values (M, ...)``."""
    n = common_size(batch)
    if n is None:
        return torch.segment_reduce(values.contiguous(), how, offsets=batch.ptr)
    columns = values.reshape(num_clouds(batch), n, -1).mT.contiguous()  # torch is fast along the last dimension
    reduce: dict[str, Any] = {"mean": torch.mean, "min": torch.amin, "max": torch.amax}
    return reduce[how](columns, -1).reshape(-1, *values.shape[1:])


def by_cloud(function: Callable[[Tensor, Tensor], Tensor], values: Tensor, rows: Tensor, batch: Batch) -> Tensor:
    """(M, C) ``function``, such as ``torch.add``, of the ``values (M, C)`` of points and the ``rows (B, C)`` of clouds.

    The function combines the values of each point with the row of its cloud.
    """
    n = common_size(batch)
    if n is None:
        return function(values, rows.contiguous().index_select(0, batch.batch))
    k = math.gcd(n, 16)  # k points at a time: inner loops over a few numbers are several times as slow
    blocks = values.reshape(len(rows), n // k, -1)
    return function(blocks, rows.repeat(1, k)[:, None]).view(values.shape)


def on_field(
    function: Callable[[Tensor, Tensor], Tensor], rows: Tensor, batch: Batch
) -> Callable[[Tensor, Field], Tensor]:
    """A function for :func:`geo3d.cloud.map_fields` that combines each value of a field with the row of its cloud.

    Args:
        function: An elementwise function of values and rows, such as ``torch.mul``.
        rows: (B, 3), one row per cloud.
        batch: The clouds.
    """

    def apply(values: Tensor, field: Field) -> Tensor:
        if field.per == "cloud":  # (B, J, 3)
            return function(values, rows[:, None])
        return by_cloud(function, values, rows, batch)

    return apply
