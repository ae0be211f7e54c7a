"""Cases of neighbour searches, sampling and ball queries against public packages and the forms of public code."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from speed.contenders import own_paths
from speed.encoders import evaluated, make_encoder
from speed.published_dgcnn import cdist_topk, matmul_topk
from speed.published_pointnet2 import loop_fps, picked, sorted_ball, square_distance
from speed.roofline import knn_flops
from torch import Tensor

from geo3d.bench.case import Case, Check
from geo3d.bench.engines import installed
from geo3d.bench.inputs import surfaces
from geo3d.cloud import Layout
from geo3d.ops.search.ball import ball_query
from geo3d.ops.search.farthest import farthest_points
from geo3d.ops.search.knn import knn
from geo3d.ops.search.three_nearest import three_nearest

DISTANCE = 1e-5
"""Largest difference of the squared distances of neighbours, as a fraction of the mean squared norm."""
ROWS = 0.002
"""Fraction of rows of a ball query that may differ, because of points on the edge of a ball."""

Clouds = Sequence[np.ndarray]


def knn_case(num_clouds: int, num_points: int, channels: int, k: int, paths: Sequence[str]) -> Case:
    """Nearest neighbours among points, or among the features of the DGCNN layer with this number of channels."""
    batch = surfaces(num_clouds, num_points)
    x = batch.pos if channels == 3 else layer_output(batch, channels)
    own, dense = own_paths(paths), x.view(num_clouds, num_points, channels).transpose(1, 2).contiguous()
    calls: dict[str, Callable[[], Any]] = {
        name: evaluated(lambda: knn(x, Layout(batch.ptr, num_points), k), path) for name, path in own.items()
    }
    if num_points <= 4096:
        calls["matmul + topk"] = evaluated(lambda: matmul_topk(dense, k))
        calls["cdist + topk"] = evaluated(lambda: cdist_topk(dense, k))
    if channels == 3:
        calls |= trees(list(x.view(num_clouds, num_points, 3).numpy()), k)
    reference = next(name for name in ("matmul + topk", "pykdtree", "scipy") if name in calls)

    def check() -> dict[str, list[Check]]:
        tables = {name: call() if name in own else flat(call(), num_points) for name, call in calls.items()}
        exact = knn(x.double(), Layout(batch.ptr, num_points), k)
        return {
            name: [near(x, x, neighbors, exact, "squared distances, against float64")]
            for name, neighbors in tables.items()
        }

    work = knn_flops([num_points] * num_clouds, channels)
    kind = "points" if channels == 3 else "features"
    return Case(
        f"kNN, {num_clouds} x {num_points} {kind}, C = {channels}, k = {k}",
        calls,
        reference,
        check,
        num_clouds,
        {name: work for name in calls if name in own or "topk" in name} if num_points <= 4096 else {},
        ("trees are rebuilt in every call",) if channels == 3 else (),
    )


def trees(clouds: Clouds, k: int) -> dict[str, Callable[[], Tensor]]:
    """Installed public package -> a call that returns its neighbours (B, N, k), searched cloud by cloud."""
    from scipy.spatial import cKDTree

    workers = torch.get_num_threads()
    searches = {"scipy": lambda cloud: cKDTree(cloud).query(cloud, k, workers=workers)[1]}
    if installed("pykdtree"):
        from pykdtree.kdtree import KDTree

        searches["pykdtree"] = lambda cloud: KDTree(cloud).query(cloud, k)[1].astype(np.int64)
    if installed("open3d"):
        import open3d

        def search(cloud: np.ndarray) -> np.ndarray:
            points = open3d.core.Tensor(cloud)
            nearest = open3d.core.nns.NearestNeighborSearch(points)
            nearest.knn_index()
            return nearest.knn_search(points, k)[0].numpy()

        searches["open3d"] = search

    def all_clouds(search: Callable[[np.ndarray], np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack([search(cloud) for cloud in clouds]))

    return {name: partial(all_clouds, search) for name, search in searches.items()}


def fps_case(num_clouds: int, num_points: int, num_samples: int, paths: Sequence[str]) -> Case:
    """Farthest point sampling against a loop in torch and the package fpsample."""
    batch = surfaces(num_clouds, num_points)
    pos = batch.pos.view(num_clouds, num_points, 3)
    clouds = list(pos.numpy())
    own = own_paths(paths)
    calls: dict[str, Callable[[], Any]] = {
        name: evaluated(lambda: farthest_points(batch.pos, Layout(batch.ptr, num_points), num_samples), path)
        for name, path in own.items()
    }
    calls["torch loop"] = evaluated(lambda: loop_fps(pos, num_samples))
    if installed("fpsample"):
        import fpsample

        def stacked(sample: Callable[[np.ndarray], np.ndarray]) -> Tensor:
            return torch.from_numpy(np.stack([sample(cloud).astype(np.int64) for cloud in clouds]))

        height = 3 if num_points < 4096 else 5  # of the tree, as the package advises for these sizes
        calls["fpsample"] = lambda: stacked(lambda c: fpsample.fps_sampling(c, num_samples, start_idx=0))
        calls["fpsample bucket"] = lambda: stacked(
            lambda c: fpsample.bucket_fps_kdline_sampling(c, num_samples, h=height, start_idx=0)
        )

    def check() -> dict[str, list[Check]]:
        picked_by = {name: call() if name in own else flat(call(), num_points) for name, call in calls.items()}
        return {
            name: [
                Check("how far a pick falls short of the farthest point", shortfall(batch.pos, picks, num_points), 1e-5)
            ]
            for name, picks in picked_by.items()
        }

    return Case(
        f"farthest points, {num_clouds} x {num_points}, {num_samples} picked", calls, "torch loop", check, num_clouds
    )


def ball_case(num_clouds: int, num_points: int, radius: float, k: int, paths: Sequence[str]) -> Case:
    """Ball query around farthest points, half of all points, against sorting a matrix of distances."""
    batch = surfaces(num_clouds, num_points)
    pos, count = batch.pos.view(num_clouds, num_points, 3), num_points // 2
    index = farthest_points(batch.pos, Layout(batch.ptr, num_points), count)
    centers, center_ptr = batch.pos[index], torch.arange(0, len(index) + 1, count)
    calls: dict[str, Callable[[], Any]] = {
        name: evaluated(
            lambda: ball_query(batch.pos, Layout(batch.ptr, num_points), centers, Layout(center_ptr, count), radius, k),
            path,
        )
        for name, path in own_paths(paths).items()
    }
    calls["sort"] = evaluated(lambda: sorted_ball(pos, centers.view(num_clouds, count, 3), radius, k))

    def check() -> dict[str, list[Check]]:
        expected = flat(calls["sort"](), num_points)
        return {
            name: [Check("fraction of rows that differ", float((call() != expected).any(1).float().mean()), ROWS)]
            for name, call in calls.items()
            if name != "sort"
        }

    title = f"ball query, {num_clouds} x {num_points} points, {count} balls of radius {radius}, k = {k}"
    return Case(title, calls, "sort", check, num_clouds)


def three_case(num_clouds: int, num_points: int, num_centers: int, paths: Sequence[str]) -> Case:
    """The three nearest centres of each point, with weights, against sorting a matrix of distances."""
    batch = surfaces(num_clouds, num_points)
    pos = batch.pos.view(num_clouds, num_points, 3)
    centers = pos[:, :num_centers].contiguous()
    rows, center_ptr = centers.view(-1, 3), torch.arange(0, num_clouds * num_centers + 1, num_centers)
    calls: dict[str, Callable[[], Any]] = {
        name: evaluated(
            lambda: three_nearest(batch.pos, Layout(batch.ptr, num_points), rows, Layout(center_ptr, num_centers)), path
        )
        for name, path in own_paths(paths).items()
    }

    def published() -> tuple[Tensor, Tensor]:
        distance, index = square_distance(pos, centers).sort(-1)
        weight = 1.0 / (distance[..., :3] + 1e-8)
        return index[..., :3], weight / weight.sum(-1, keepdim=True)

    calls["sort"] = evaluated(published)

    def check() -> dict[str, list[Check]]:
        expected = flat(calls["sort"]()[0], num_centers)
        return {
            name: [near(rows, batch.pos, call()[0], expected, "squared distances")]
            for name, call in calls.items()
            if name != "sort"
        }

    title = f"three nearest, {num_clouds} x {num_points} points among {num_centers}"
    return Case(title, calls, "sort", check, num_clouds)


def layer_output(batch: Any, channels: int) -> Tensor:
    """(M, channels) output of DGCNN's first layer with ``channels`` channels, which is the input of the next layer."""
    encoder = make_encoder("DGCNN").eval()
    with torch.no_grad():
        parts = encoder(batch).point.split(list(encoder.channels), 1)
    return next(part for part in parts if part.shape[1] == channels).contiguous()


def flat(neighbors: Tensor, num_points: int) -> Tensor:
    """(B * S, ...) flat indices from positions (B, S, ...) inside clouds of ``num_points`` points.

    Example:
        >>> flat(torch.tensor([[0, 2], [1, 0]]), 3).tolist()
        [0, 2, 4, 3]
    """
    first = (torch.arange(len(neighbors)) * num_points).view(-1, *[1] * (neighbors.dim() - 1))
    return (neighbors + first).flatten(0, 1)


def near(x: Tensor, y: Tensor, found: Tensor, expected: Tensor, what: str) -> Check:
    """Check that the neighbours found in ``x`` are as near to ``y`` as those expected; near-ties may be swapped."""
    squares = [(x.double()[t] - y.double()[:, None]).square().sum(-1).sort(-1).values for t in (found, expected)]
    norm = float(x.double().square().sum(-1).mean())
    return Check(what, float((squares[0] - squares[1]).abs().max()), DISTANCE * norm)


def shortfall(pos: Tensor, picks: Tensor, num_points: int) -> float:
    """The largest amount by which a pick (B, S) is nearer to the earlier picks than the farthest point is.

    It is about 0 if every pick is the farthest from those before it, whichever of near-ties was picked.
    """
    clouds = pos.double().view(-1, num_points, 3)
    inside = picks.view(len(clouds), -1) - torch.arange(0, len(pos), num_points)[:, None]
    distance, worst = torch.full(clouds.shape[:2], torch.inf, dtype=torch.float64), 0.0
    for i in range(inside.shape[1]):
        pick = inside[:, i : i + 1]
        if i:
            most, taken = distance.max(1).values.sqrt(), distance.gather(1, pick)[:, 0].sqrt()
            worst = max(worst, float((most - taken).max()))
        distance = torch.minimum(distance, (clouds - picked(clouds, pick)).square().sum(-1))
    return worst
