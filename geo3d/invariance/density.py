"""Uneven sampling, as a scanner leaves it."""

import torch
from torch_geometric.data import Batch

from geo3d.invariance.checks import number
from geo3d.invariance.per_cloud import directions, random_keys, reduce_clouds, uniform
from geo3d.invariance.selection import Kept, Selection, keep_smallest, kept_counts


class DensityGradient(Selection):
    """Each cloud loses points, more and more of them along a random direction; at least one stays.

    Points are drawn one after another without replacement, each with a probability in proportion to
    exp(-slope t), where t runs from 0 to 1 along the direction. Ordering by e / weight, e exponentially distributed,
    gives just that in one go (Efraimidis and Spirakis 2006).

    Args:
        max_ratio: Largest share that is dropped, 0 to 1; the share is uniform between none and this.
        slope: Logarithm of the ratio of the weights at the two ends.
    """

    def __init__(self, max_ratio: float = 0.75, slope: float = 4.0) -> None:
        self.max_ratio = number(self, "max_ratio", max_ratio, 0.0, 1.0)
        self.slope = number(self, "slope", slope, 0.0, 100.0)

    def sample(self, batch: Batch, generator: torch.Generator) -> Kept:
        """The points that stay, in their order."""
        ratio = 1 - uniform(batch, generator, high=self.max_ratio)
        height = (batch.pos * directions(batch, generator)[batch.batch]).sum(1)
        low, high = reduce_clouds(height, batch, "min"), reduce_clouds(height, batch, "max")
        t = (height - low[batch.batch]) / (high - low).clamp(min=torch.finfo(low.dtype).tiny)[batch.batch]
        exponential = -torch.log1p(-random_keys(batch, generator))
        return keep_smallest(exponential * (self.slope * t.double()).exp(), kept_counts(ratio, batch), batch)
