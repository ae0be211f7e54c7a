"""The base class and the common functions of invariances that keep some of the points."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.cloud import common_size, select_points
from geo3d.invariance.base import Invariance
from geo3d.invariance.order import order_within, pack, sorted_rows


class Kept(NamedTuple):
    """The points to keep, and the sizes of the new clouds."""

    points: Tensor
    """(M',) flat indices, those of cloud 0 first."""
    ptr: Tensor | None
    """(B + 1,) offsets of the new clouds, or None if all have ``num_points`` points."""
    num_points: int | None


class Selection(Invariance):
    """An invariance that keeps some points of each cloud, at least one; its element is ``Kept``."""

    def act(self, element: Kept, batch: Batch) -> Batch:
        """The clouds of the kept points, with their attributes."""
        return select_points(batch, element.points, num_points=element.num_points, ptr=element.ptr)


def kept_counts(ratio: Tensor, batch: Batch, min_points: int = 1) -> Tensor:
    """(B,) int64 sizes: ``ratio (B,)`` times each cloud's size, rounded up, at least ``min_points`` or all points."""
    sizes = batch.ptr.diff()
    return (ratio * sizes).ceil().long().clamp(min=min_points).minimum(sizes)


def keep_where(mask: Tensor, batch: Batch) -> Kept:
    """The points where ``mask (M,)`` is true, in their original order; each cloud must keep at least one."""
    passed = torch.cat([mask.new_zeros(1, dtype=torch.int64), mask.cumsum(0)])
    return Kept(_places(mask), passed[batch.ptr], None)


def keep_smallest(keys: Tensor, counts: Tensor, batch: Batch) -> Kept:
    """The ``counts (B,)`` points of each cloud with the smallest ``keys (M,)``, in their original order.

    Ties go to the lower index. The keys decide whether points are kept at random, by distance or by weight.
    """
    packed = pack(keys, batch)
    last = batch.ptr[:-1] + counts - 1
    if packed is None:
        order = order_within(keys, batch)
        packed = torch.empty_like(order)
        packed[order] = torch.arange(len(order), device=order.device)
        limits = last
    else:
        limits = sorted_rows(packed.view(-1, common_size(batch) or len(packed))).view(-1)[last]
    mask = packed <= limits.index_select(0, batch.batch)
    return Kept(_places(mask), torch.cat([counts.new_zeros(1), counts.cumsum(0)]), None)


def _places(mask: Tensor) -> Tensor:
    """(M',) indices where ``mask (M,)`` is true."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))  # many times faster than torch.nonzero
    return mask.nonzero()[:, 0]
