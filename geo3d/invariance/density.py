"""Uneven sampling, as by a scanner."""

from typing import Annotated

import torch
from torch_geometric.data import Batch

from geo3d.checks import Range, Share, checked
from geo3d.geometry.per_cloud import by_cloud, reduce_clouds
from geo3d.invariance.draws import directions, uniform
from geo3d.invariance.selection import Kept, Selection, keep_smallest, kept_counts


class DensityGradient(Selection):
    """Drop points of each cloud, more and more of them along a random direction; at least one point is kept.

    The kept points are drawn one after another without replacement, with probabilities proportional to the weight
    exp(-slope t), where t goes from 0 to 1 along the direction. Sorting the points by e / weight, with e exponentially
    distributed, gives the same result in one step (Efraimidis and Spirakis 2006). We sort by the logarithm of e /
    weight, which cannot overflow.

    Args:
        max_ratio: Largest fraction that is dropped, 0 to 1; the fraction is uniform between 0 and this.
        slope: Logarithm of the ratio of the weights at the two ends.
    """

    @checked
    def __init__(self, max_ratio: Share = 0.75, slope: Annotated[float, Range(0, 100)] = 4.0) -> None:
        self.max_ratio, self.slope = max_ratio, slope

    def sample(self, batch: Batch, generator: torch.Generator) -> Kept:
        """The points to keep, in their original order."""
        ratio = 1 - uniform(batch, generator, high=self.max_ratio)
        x, y, z = by_cloud(torch.mul, batch.pos, directions(batch, generator), batch).unbind(1)
        height = (x + y + z)[:, None]
        low, high = reduce_clouds(height, batch, "min"), reduce_clouds(height, batch, "max")
        extent = (high - low).clamp(min=torch.finfo(low.dtype).tiny)
        t = by_cloud(torch.div, by_cloud(torch.sub, height, low, batch), extent, batch)[:, 0]
        drawn = torch.rand(t.shape, generator=generator, device=generator.device, dtype=torch.float64).to(t.device)
        exponential = torch.log1p(drawn.neg_()).neg_().to(t.dtype)
        return keep_smallest(exponential.log_().add(t, alpha=self.slope), kept_counts(ratio, batch), batch)
