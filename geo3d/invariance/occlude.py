"""Occlusion: only the points that are visible from one side."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError
from torch_geometric.data import Batch

from geo3d.checks import Range, checked
from geo3d.geometry.per_cloud import by_cloud, reduce_clouds
from geo3d.invariance.draws import directions
from geo3d.invariance.selection import Kept, Selection, keep_where


class Occlude(Selection):
    """Keep the points of each cloud that are visible from a random direction, by hidden point removal.

    Katz, Tal and Basri, Direct Visibility of Point Sets (2007): the points are flipped at a sphere around the
    viewpoint; those on the convex hull of the flipped points and the viewpoint are visible. Clouds of fewer than 5
    points, or without such a hull, keep all points. The CPU builds one hull per cloud, which takes milliseconds, with
    as many threads as torch has.

    Args:
        distance: Distance of the viewpoint from the mean of the cloud, in radii of the cloud, above 1.
        radius: Radius of the sphere, in distances of the farthest point from the viewpoint, at least 1. A larger radius
            makes more points visible; the more points a cloud has, the larger the radius may be.
    """

    @checked
    def __init__(
        self,
        distance: Annotated[float, Range(1, 1e4, above=True)] = 3.0,
        radius: Annotated[float, Range(1, 1e6)] = 30.0,
    ) -> None:
        self.distance, self.radius = distance, radius

    def sample(self, batch: Batch, generator: torch.Generator) -> Kept:
        """The visible points, in their original order."""
        pos = batch.pos.detach()
        centered = by_cloud(torch.sub, pos, reduce_clouds(pos, batch, "mean"), batch)
        size = reduce_clouds(centered.norm(dim=1), batch, "max")
        viewpoint = directions(batch, generator) * (self.distance * size)[:, None]
        seen = by_cloud(torch.sub, centered, viewpoint, batch).cpu().double().numpy()
        clouds = np.split(seen, batch.ptr[1:-1].cpu().numpy())
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # Qhull releases Python's lock
            mask = np.concatenate(list(threads.map(partial(visible, radius=self.radius), clouds)))
        return keep_where(torch.from_numpy(mask).to(pos.device), batch)


def visible(points: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """(N,) mask of the points (N, 3) that are visible from the origin; equal points are visible or hidden together.

    Args:
        points: Coordinates relative to the viewpoint.
        radius: Radius of the sphere at which points are flipped, in distances of the farthest point.
    """
    everything = np.ones(len(points), dtype=bool)
    distance = np.sqrt(np.einsum("ij,ij->i", points, points))[:, None]
    if len(points) < 5 or distance.min() == 0:
        return everything
    flipped = points * (2 * radius * distance.max() / distance - 1)
    unique, place = _distinct(flipped)
    try:
        hull = ConvexHull(np.concatenate([unique, np.zeros((1, 3))]))
    except QhullError:  # all points lie in one plane with the viewpoint
        return everything
    on_hull = np.zeros(len(unique) + 1, dtype=bool)
    on_hull[hull.vertices] = True
    return on_hull[place]


def _distinct(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The distinct ones of the points (N, 3), in an order that only their values decide, and the index (N,) of each."""
    words = (points + 0.0).view(np.uint64)  # -0 becomes 0
    keys = (words * np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)).sum(1)
    order = np.argsort(keys)
    if (np.diff(keys[order]) == 0).any():
        unique, place = np.unique(points, axis=0, return_inverse=True)
        return unique, place.reshape(-1)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return points[order], place
