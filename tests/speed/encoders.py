"""Cases of encoders in evaluation, from a batch to the cloud features."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from speed.contenders import PATHS, Path, own_paths, usable
from speed.measure import values
from speed.published_dgcnn import PublishedDGCNN
from speed.published_pointnet2 import Groups, PublishedPointNet2, pools, single_scales, sizes_of
from speed.pyg import PyGDGCNN, PyGPointNet2
from speed.roofline import dgcnn_flops, knn_flops, rows_flops
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from geo3d.bench.case import Case, Check, Make
from geo3d.bench.inputs import dense, more_pairs, ragged_surfaces, randomized, spread, surfaces, uneven
from geo3d.cloud import Layout, common_size
from geo3d.encoders import DGCNN, PointNet2
from geo3d.ops.search.ball import ball_query
from geo3d.ops.search.farthest import farthest_points
from geo3d.ops.search.knn import knn
from geo3d.seeds import seeded

RTOL = 1e-4
"""Tolerance relative to the largest feature, if all contenders use the same neighbours."""
OTHERS = 0.02
"""Fraction of features that may differ, because of near-ties, if each contender finds its own neighbours."""
RAGGED = (300, 2000)
"""Sizes of the smallest and the largest cloud of a ragged batch."""

Encoder = DGCNN | PointNet2


def encoder_cases(
    clouds: Sequence[int] = (1, 8, 32),
    points: int = 1024,
    k: int = 20,
    paths: Sequence[str] = PATHS,
    ragged: tuple[int, int] = RAGGED,
    ragged_clouds: int = 16,
) -> list[Make]:
    """Cases of DGCNN and PointNet++ (single-scale) on uniform and ragged batches."""
    makes = [partial(dgcnn_case, count, points, k, paths) for count in clouds]
    makes += [partial(pointnet2_case, count, points, paths) for count in clouds]
    for name in ("DGCNN", "PointNet2"):
        makes += [partial(ragged_case, name, ragged_clouds, *ragged, k, (path,)) for path in usable(paths)]
    return makes


def make_encoder(name: str, k: int = 20, dynamic: bool = True) -> Any:
    """A DGCNN or PointNet2 of the published size with random weights and running statistics."""
    with seeded(0, "bench", name):
        return randomized(DGCNN(k=k, dynamic=dynamic) if name == "DGCNN" else PointNet2())


def dgcnn_case(num_clouds: int, num_points: int, k: int, paths: Sequence[str]) -> Case:
    """DGCNN against the published form and PyG's EdgeConv."""
    encoder = make_encoder("DGCNN", k).eval()
    batch = surfaces(num_clouds, num_points)
    published, pyg = PublishedDGCNN(encoder).eval(), PyGDGCNN(encoder).eval()
    own, clouds = own_paths(paths), dense(batch)
    calls = own_calls(own, encoder, batch)
    calls["published form"] = evaluated(lambda: published(clouds))
    calls["PyG EdgeConv"] = evaluated(lambda: pyg(batch.pos, num_points))

    def given(tables: Any) -> dict[str, Tensor]:
        with torch.no_grad():
            return {
                "published form": published(clouds, local(tables, batch)),
                "PyG EdgeConv": pyg(batch.pos, num_points, tables),
            }

    sizes, channels = [num_points] * num_clouds, (3, *encoder.channels)
    by_edge, by_point = (dgcnn_flops(sizes, k, channels, encoder.embedding, each) for each in (True, False))
    return Case(
        f"DGCNN evaluation, {num_clouds} clouds of {num_points} points, k = {k}",
        calls,
        "published form",
        partial(shared_and_own, own, encoder, batch, calls, given),
        num_clouds,
        {name: by_point if name in own else by_edge for name in calls},
    )


def pointnet2_case(num_clouds: int, num_points: int, paths: Sequence[str]) -> Case:
    """PointNet++ against the published form and PyG's PointNetConv."""
    encoder = make_encoder("PointNet2").eval()
    batch = surfaces(num_clouds, num_points)
    published, pyg = PublishedPointNet2(encoder).eval(), PyGPointNet2(encoder, distinct=True).eval()
    own, clouds = own_paths(paths), dense(batch)
    calls = own_calls(own, encoder, batch)
    calls["published form"] = evaluated(lambda: published(clouds))
    calls["PyG PointNetConv"] = evaluated(lambda: pyg(batch.pos, num_points))

    def given(groups: Any) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"published form": published(clouds, groups), "PyG PointNetConv": pyg(batch.pos, num_points)}

    flops = pointnet2_flops(encoder, batch)
    return Case(
        f"PointNet++ evaluation, {num_clouds} clouds of {num_points} points",
        calls,
        "published form",
        partial(shared_and_own, own, encoder, batch, calls, given),
        num_clouds,
        {name: flops[name == "published form"] for name in calls},
        ("geo3d gives features of all points, too; PyG gets geo3d's samples and balls, without repeated edges",),
    )


def ragged_case(name: str, num_clouds: int, smallest: int, largest: int, k: int, paths: Sequence[str]) -> Case:
    """Clouds of many sizes against equal clouds with as many points in total; checked against single clouds."""
    encoder = make_encoder(name, k).eval()
    sizes = uneven(num_clouds, smallest, largest)
    ragged, uniform = ragged_surfaces(sizes), surfaces(num_clouds, sum(sizes) // num_clouds)
    own = own_paths(paths)
    calls = {f"{label}, uniform": call for label, call in own_calls(own, encoder, uniform).items()}
    calls |= {f"{label}, ragged": call for label, call in own_calls(own, encoder, ragged).items()}

    def check() -> dict[str, list[Check]]:
        checks = {}
        for label, path in own.items():
            with torch.no_grad(), path():
                alone = torch.cat([encoder(Data(pos=pos)).cloud for pos in ragged.pos.split(sizes)])
                checks[f"{label}, ragged"] = [
                    apart(encoder(ragged).cloud, alone, "fraction of features that differ, single clouds")
                ]
        return checks

    return Case(
        f"{name} evaluation, {spread(sizes)}",
        calls,
        f"{next(iter(own))}, uniform",
        check,
        num_clouds,
        notes=(more_pairs(sizes),),
    )


def evaluated(call: Callable[[], Any], path: Path | None = None) -> Callable[[], Any]:
    """The call in inference mode, inside the context ``path``."""

    def run() -> Any:
        with torch.inference_mode():
            if path is None:
                return call()
            with path():
                return call()

    return run


def own_calls(own: Mapping[str, Path], encoder: nn.Module, batch: Batch) -> dict[str, Callable[[], Tensor]]:
    """geo3d's contenders for the cloud features."""
    return {label: evaluated(lambda: encoder(batch).cloud, path) for label, path in own.items()}


def neighbours_of(encoder: Encoder, batch: Batch, point: Tensor) -> Any:
    """The neighbours that the encoder used: DGCNN's, searched again in its layers' inputs, or PointNet++'s groups."""
    size = common_size(batch)
    if isinstance(encoder, DGCNN):
        inputs = [batch.pos, *point.detach().split(list(encoder.channels), 1)][: len(encoder.channels)]
        return [knn(x, Layout(batch.ptr, size), encoder.k) for x in inputs]
    assert size is not None
    return groups_of(encoder, batch.pos, size)


def groups_of(encoder: PointNet2, pos: Tensor, num_points: int) -> Groups:
    """Centres (B, S) and balls (B, S, k) of each level, as positions inside the clouds."""
    groups, clouds = [], len(pos) // num_points
    for num_samples, radius, k in zip(encoder.num_samples, *single_scales(encoder), strict=True):
        count = min(num_samples, num_points)
        ptr, center_ptr = (torch.arange(0, clouds * n + 1, n) for n in (num_points, count))
        index = farthest_points(pos, Layout(ptr, num_points), count)
        neighbors = ball_query(pos, Layout(ptr, num_points), pos[index], Layout(center_ptr, count), radius, k)
        first = ptr[:-1, None]
        groups.append((index.view(clouds, count) - first, neighbors.view(clouds, count, k) - first[..., None]))
        pos, num_points = pos[index], count
    return groups


def local(tables: Sequence[Tensor], batch: Batch) -> list[Tensor]:
    """(B, N, k) positions inside the clouds, from flat tables (M, k) of clouds of one size."""
    first = batch.ptr[:-1, None, None]
    return [neighbors.view(len(first), -1, neighbors.shape[1]) - first for neighbors in tables]


def shared_and_own(
    own: Mapping[str, Path],
    encoder: Encoder,
    batch: Batch,
    calls: Mapping[str, Callable[[], Tensor]],
    given: Callable[[Any], dict[str, Tensor]],
) -> dict[str, list[Check]]:
    """Checks against the published form: with the neighbours of each geo3d contender, then each with its own."""
    checks: dict[str, list[Check]] = {}
    for label, path in own.items():
        with torch.no_grad(), path():
            features = encoder(batch)
            outs = given(neighbours_of(encoder, batch, features.point))
        expected = outs.pop("published form")
        checks[label] = [values(features.cloud, expected, RTOL, "features, same neighbours")]
        for other, out in outs.items():
            checks[other] = [values(out, expected, RTOL, "features, same neighbours")]
    expected = calls["published form"]()
    for label in checks:
        checks[label].append(apart(calls[label](), expected, "fraction of features that differ, own neighbours"))
    return checks


def apart(found: Tensor, expected: Tensor, what: str) -> Check:
    """Check that at most the fraction ``OTHERS`` of the values differs from those expected by more than ``RTOL``."""
    far = (found - expected).abs() > RTOL * expected.abs().max()
    return Check(what, float(far.float().mean()), OTHERS)


def pointnet2_flops(encoder: PointNet2, batch: Batch) -> tuple[float, float]:
    """Multiplications and additions of one evaluation: the necessary ones, and those of the published form.

    Only distinct edges are necessary, and in the first layer the features once per point, not per edge.
    """
    size = common_size(batch)
    assert size is not None
    needed, published = 0.0, 0.0
    *local_pools, last = pools(encoder)
    for pool, (_, neighbors) in zip(local_pools, groups_of(encoder, batch.pos, size), strict=True):
        clouds, centers, k = neighbors.shape
        ordered = neighbors.sort(-1).values
        distinct = float((ordered.diff(dim=-1) != 0).sum()) + clouds * centers
        sizes = sizes_of(pool)
        published += rows_flops(clouds * centers * k, sizes) + knn_flops([size] * clouds, 3) * centers / size
        needed += rows_flops(distinct, [3, *sizes[1:]]) + rows_flops(clouds * size, [sizes[0] - 3, sizes[1]])
        size = centers
    top = rows_flops(len(batch.ptr[1:]) * size, sizes_of(last))
    return needed + top, published + top
