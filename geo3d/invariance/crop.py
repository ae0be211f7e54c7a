"""Crops: one local part of each cloud."""

import math
from typing import Annotated

import torch
from torch_geometric.data import Batch

from geo3d.checks import Points, Range, checked, ordered
from geo3d.geometry.per_cloud import by_cloud, reduce_clouds
from geo3d.invariance.draws import random_points, uniform
from geo3d.invariance.selection import Kept, Selection, keep_smallest, kept_counts

Ratio = Annotated[float, Range(0, 1, above=True)]


class CropKNN(Selection):
    """Keep the points of each cloud that are nearest to a random one of its points; joints do not change.

    Args:
        min_ratio: Smallest fraction of the points that is kept, above 0.
        max_ratio: Largest fraction, at most 1; the fraction is uniform between them.
        min_points: At least this many points are kept, or all if the cloud has fewer.
    """

    @checked
    def __init__(self, min_ratio: Ratio = 0.4, max_ratio: Ratio = 0.9, min_points: Points = 1) -> None:
        ordered(self, "min_ratio", "max_ratio", min_ratio, max_ratio)
        self.min_ratio = min_ratio
        self.max_ratio = max_ratio
        self.min_points = min_points

    def sample(self, batch: Batch, generator: torch.Generator) -> Kept:
        """The points to keep, in their original order."""
        ratio = uniform(batch, generator, low=self.min_ratio, high=self.max_ratio)
        x, y, z = by_cloud(torch.sub, batch.pos, batch.pos[random_points(batch, generator)], batch).unbind(1)
        return keep_smallest(x * x + y * y + z * z, kept_counts(ratio, batch, self.min_points), batch)


class CropCuboid(Selection):
    """Keep the points of each cloud in an upright cuboid around a random one of its points; joints do not change.

    The cuboid has the proportions of the cloud's bounding box, with each side stretched by a random factor. It grows
    until it holds the drawn fraction of the points; a cuboid of fixed size would sometimes hold hardly any. Of the
    points on its surface, those with the lower indices are kept.

    Args:
        min_ratio: Smallest fraction of the points that is kept, above 0.
        max_ratio: Largest fraction, at most 1; the fraction is uniform between them.
        aspect: The stretch of each side is log-uniform between 1 / aspect and aspect.
        min_points: At least this many points are kept, or all if the cloud has fewer.
    """

    @checked
    def __init__(
        self,
        min_ratio: Ratio = 0.4,
        max_ratio: Ratio = 0.9,
        aspect: Annotated[float, Range(1, 1000)] = 4 / 3,
        min_points: Points = 1,
    ) -> None:
        ordered(self, "min_ratio", "max_ratio", min_ratio, max_ratio)
        self.min_ratio = min_ratio
        self.max_ratio = max_ratio
        self.aspect = aspect
        self.min_points = min_points

    def sample(self, batch: Batch, generator: torch.Generator) -> Kept:
        """The points to keep, in their original order."""
        ratio = uniform(batch, generator, low=self.min_ratio, high=self.max_ratio)
        stretch = math.log(self.aspect) * uniform(batch, generator, 3, low=-1.0, high=1.0)
        extent = reduce_clouds(batch.pos, batch, "max") - reduce_clouds(batch.pos, batch, "min")
        sides = extent.clamp(min=torch.finfo(extent.dtype).tiny) * stretch.exp().to(extent.dtype)
        offset = by_cloud(torch.sub, batch.pos, batch.pos[random_points(batch, generator)], batch)
        x, y, z = by_cloud(torch.div, offset, sides, batch).abs().unbind(1)
        return keep_smallest(x.maximum(y).maximum(z), kept_counts(ratio, batch, self.min_points), batch)
