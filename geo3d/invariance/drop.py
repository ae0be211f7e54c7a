"""Random subsets of the points."""

import torch
from torch_geometric.data import Batch

from geo3d.checks import Points, Share, checked
from geo3d.cloud import common_size
from geo3d.invariance.draws import uniform
from geo3d.invariance.order import order_within, random_keys
from geo3d.invariance.selection import Kept, Selection, keep_smallest, keep_where, kept_counts


class Drop(Selection):
    """Drop a random fraction of the points of each cloud, uniform between 0 and ``max_ratio``; at least one is kept.

    Args:
        max_ratio: Largest fraction that is dropped, 0 to 1.
    """

    @checked
    def __init__(self, max_ratio: Share = 0.5) -> None:
        self.max_ratio = max_ratio

    def sample(self, batch: Batch, generator: torch.Generator) -> Kept:
        """The points to keep, in their original order."""
        ratio = 1 - uniform(batch, generator, high=self.max_ratio)
        return keep_smallest(random_keys(batch, generator), kept_counts(ratio, batch), batch)


class Resample(Selection):
    """Keep ``num_points`` distinct random points of each cloud, in random order.

    Clouds with fewer points keep all of them, so the results have one size if every cloud is large enough.

    Args:
        num_points: Number of points to keep.
    """

    @checked
    def __init__(self, num_points: Points) -> None:
        self.num_points = num_points

    def sample(self, batch: Batch, generator: torch.Generator) -> Kept:
        """The points to keep, in random order."""
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
