"""Cases of single operators: searches and gathers, on uniform and ragged batches."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from speed.contenders import PATHS, own_paths, usable
from speed.encoders import RAGGED, evaluated
from speed.measure import largest_difference
from speed.searches import ball_case, fps_case, knn_case, near, three_case
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.bench.case import Case, Check, Make
from geo3d.bench.inputs import more_pairs, ragged_surfaces, spread, surfaces, uneven
from geo3d.cloud import Layout, layout_of
from geo3d.ops.edge.gather import gather_max
from geo3d.ops.search.ball import ball_query
from geo3d.ops.search.farthest import farthest_points
from geo3d.ops.search.knn import knn
from geo3d.seeds import generator


def kernel_cases(
    clouds: Sequence[int] = (8,),
    points: int = 1024,
    large: int = 16384,
    k: int = 20,
    paths: Sequence[str] = PATHS,
    ragged: tuple[int, int] = RAGGED,
    ragged_clouds: int = 16,
) -> list[Make]:
    """All cases; ``large`` is the size of clouds where search trees and grids pay off."""
    makes: list[Make] = []
    for count in clouds:
        makes += [partial(knn_case, count, points, channels, k, paths) for channels in (3, 64, 128)]
        makes += [partial(fps_case, count, points, points // 2, paths)]
        makes += [partial(ball_case, count, points, 0.2, 32, paths)]
        makes += [partial(three_case, count, points, points // 8, paths)]
        for channels in (64, 256):
            makes += [partial(gather_case, count, points, channels, k, training, paths) for training in (False, True)]
    makes += [partial(knn_case, 1, large, 3, k, paths)]
    makes += [partial(fps_case, 1, points, points // 2, paths), partial(fps_case, 1, large, large // 16, paths)]
    for kind in RAGGED_CALLS:
        makes += [partial(ragged_kernel_case, kind, ragged_clouds, *ragged, k, (path,)) for path in usable(paths)]
    return makes


def gather_case(num_clouds: int, num_points: int, channels: int, k: int, training: bool, paths: Sequence[str]) -> Case:
    """The maximum over neighbours against indexing and ``max``; with ``training`` also backward."""
    batch = surfaces(num_clouds, num_points)
    neighbors = knn(batch.pos, Layout(batch.ptr, num_points), k)
    draw = generator(0, "bench", "gather")
    b, grad = (torch.randn(len(neighbors), channels, generator=draw) for _ in range(2))
    b.requires_grad_(training)

    def backward(out: Tensor) -> list[Tensor]:
        return [out.detach(), *torch.autograd.grad(out, b, grad)]

    def contender(function: Callable[[], Tensor], path: Any = None) -> Callable[[], list[Tensor]]:
        if not training:
            return evaluated(lambda: [function()], path)

        def run() -> list[Tensor]:
            if path is None:
                return backward(function())
            with path():
                return backward(function())

        return run

    calls = {name: contender(lambda: gather_max(b, neighbors), path) for name, path in own_paths(paths).items()}
    calls["index + max"] = contender(lambda: b[neighbors].max(1).values)

    def check() -> dict[str, list[Check]]:
        expected = calls["index + max"]()
        return {
            name: [Check("values", largest_difference(call(), expected), 1e-5 if training else 0.0)]
            for name, call in calls.items()
            if name != "index + max"
        }

    what = "gather-max, forward and backward" if training else "gather-max"
    return Case(
        f"{what}, {num_clouds} x {num_points} points, C = {channels}, k = {k}", calls, "index + max", check, num_clouds
    )


def _knn(batch: Batch, k: int) -> Tensor:
    return knn(batch.pos, layout_of(batch), k)


def _fps(batch: Batch, k: int) -> Tensor:
    return farthest_points(batch.pos, layout_of(batch), 128)


def _ball(batch: Batch, k: int) -> Tensor:
    clouds = len(batch.ptr) - 1
    centers = batch.pos[_fps(batch, k)]
    return ball_query(batch.pos, layout_of(batch), centers, Layout(torch.arange(clouds + 1) * 128, 128), 0.2, 32)


RAGGED_CALLS: dict[str, Callable[[Batch, int], Tensor]] = {"kNN": _knn, "FPS": _fps, "FPS and ball query": _ball}


def ragged_kernel_case(kind: str, num_clouds: int, smallest: int, largest: int, k: int, paths: Sequence[str]) -> Case:
    """An operator on ragged clouds against equal clouds with as many points in total; checked against single clouds."""
    sizes, work = uneven(num_clouds, smallest, largest), RAGGED_CALLS[kind]
    ragged, uniform = ragged_surfaces(sizes), surfaces(num_clouds, sum(sizes) // num_clouds)
    ((label, path),) = own_paths(paths).items()
    calls = {
        f"{label}, {name}": evaluated(partial(work, batch, k), path)
        for name, batch in (("uniform", uniform), ("ragged", ragged))
    }

    def check() -> dict[str, list[Check]]:
        together = calls[f"{label}, ragged"]()
        parts = ragged.pos.split(sizes)
        with torch.no_grad(), path():
            alone = [
                work(Batch(pos=pos, ptr=torch.tensor([0, len(pos)]), num_points=len(pos)), k) + start
                for pos, start in zip(parts, ragged.ptr.tolist(), strict=False)
            ]
        expected = torch.cat(alone)
        if kind == "kNN":
            return {
                f"{label}, ragged": [
                    near(ragged.pos, ragged.pos, together, expected, "squared distances, single clouds")
                ]
            }
        return {
            f"{label}, ragged": [
                Check("fraction of other indices, single clouds", float((together != expected).float().mean()), 0.0)
            ]
        }

    return Case(
        f"{kind}, {spread(sizes)}",
        calls,
        f"{label}, uniform",
        check,
        num_clouds,
        notes=(more_pairs(sizes),),
    )
