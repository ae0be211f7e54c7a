"""Only what can be seen from one side."""

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
    """The points of each cloud that are visible from a random direction, by hidden point removal.

    Katz, Tal and Basri, Direct Visibility of Point Sets (2007): turn the points inside out about the viewpoint; those
    that lie on the convex hull of the result and the viewpoint are visible. Clouds of fewer than 5 points, or for
    which there is no such hull, stay whole. One hull is built for each cloud on the CPU, which takes milliseconds; as
    many are built at a time as torch has threads.

    Args:
        distance: Of the viewpoint from the middle of the cloud, in radii of the cloud, above 1.
        radius: Of the sphere of inversion, in distances of the farthest point from the viewpoint, at least 1. A larger
            one calls more points visible; the more points a cloud has, the larger it may be.
    """

    @checked
    def __init__(
        self,
        distance: Annotated[float, Range(1, 1e4, above=True)] = 3.0,
        radius: Annotated[float, Range(1, 1e6)] = 30.0,
    ) -> None:
        self.distance, self.radius = distance, radius

    def sample(self, batch: Batch, generator: torch.Generator) -> Kept:
        """The visible points, in their order."""
        pos = batch.pos.detach()
        centered = by_cloud(torch.sub, pos, reduce_clouds(pos, batch, "mean"), batch)
        size = reduce_clouds(centered.norm(dim=1), batch, "max")
        viewpoint = directions(batch, generator) * (self.distance * size)[:, None]
        seen = by_cloud(torch.sub, centered, viewpoint, batch).cpu().double().numpy()
        clouds = np.split(seen, batch.ptr[1:-1].cpu().numpy())
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # Qhull works without Python's lock
            mask = np.concatenate(list(threads.map(partial(visible, radius=self.radius), clouds)))
        return keep_where(torch.from_numpy(mask).to(pos.device), batch)


def visible(points: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    """(N,) which of the points (N, 3) an eye at the origin sees; equal points are seen or hidden together.

    Args:
        points: Relative to the eye.
        radius: Of the sphere of inversion, in distances of the farthest point.
    """
    everything = np.ones(len(points), dtype=bool)
    distance = np.sqrt(np.einsum("ij,ij->i", points, points))[:, None]
    if len(points) < 5 or distance.min() == 0:
        return everything
    flipped = points * (2 * radius * distance.max() / distance - 1)
    unique, place = _distinct(flipped)
    try:
        hull = ConvexHull(np.concatenate([unique, np.zeros((1, 3))]))
    except QhullError:  # all in one plane with the eye
        return everything
    on_hull = np.zeros(len(unique) + 1, dtype=bool)
    on_hull[hull.vertices] = True
    return on_hull[place]


def _distinct(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The different ones of the points (N, 3), in an order that is theirs, and where each point (N,) is among them."""
    words = (points + 0.0).view(np.uint64)  # -0 becomes 0
    keys = (words * np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)).sum(1)
    order = np.argsort(keys)
    if (np.diff(keys[order]) == 0).any():
        unique, place = np.unique(points, axis=0, return_inverse=True)
        return unique, place.reshape(-1)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return points[order], place
