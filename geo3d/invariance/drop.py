"""Fewer points, chosen by chance."""

import torch
from torch_geometric.data import Batch

from geo3d.checks import Points, Share, checked
from geo3d.cloud import common_size
from geo3d.invariance.draws import uniform
from geo3d.invariance.order import order_within, random_keys
from geo3d.invariance.selection import Kept, Selection, keep_smallest, keep_where, kept_counts


class Drop(Selection):
    """Each cloud loses a fraction of its points, uniform between none and ``max_ratio``; at least one stays.

    Args:
        max_ratio: Largest fraction that is dropped, 0 to 1.
    """

    @checked
    def __init__(self, max_ratio: Share = 0.5) -> None:
        self.max_ratio = max_ratio

    def sample(self, batch: Batch, generator: torch.Generator) -> Kept:
        """The points that stay, in their order."""
        ratio = 1 - uniform(batch, generator, high=self.max_ratio)
        return keep_smallest(random_keys(batch, generator), kept_counts(ratio, batch), batch)


class Resample(Selection):
    """A random choice of ``num_points`` different points of each cloud, in random order.

    Clouds that have fewer keep them all, so the result is of one size when every cloud is large enough.

    Args:
        num_points: Points to choose.
    """

    @checked
    def __init__(self, num_points: Points) -> None:
        self.num_points = num_points

    def sample(self, batch: Batch, generator: torch.Generator) -> Kept:
        """The chosen points."""
        keys, size = random_keys(batch, generator), common_size(batch)
        if size is not None:
            chosen = min(size, self.num_points)
            return Kept(order_within(keys, batch, chosen), None, chosen)
        order = order_within(keys, batch)
        rank = torch.arange(len(order), device=order.device) - batch.ptr[batch.batch]
        places = keep_where(rank < self.num_points, batch)
        assert places.ptr is not None
        enough = bool((batch.ptr.diff() >= self.num_points).all())
        return Kept(order[places.points], None if enough else places.ptr, self.num_points if enough else None)
