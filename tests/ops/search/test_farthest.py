import numpy as np
import pytest
import torch

from geo3d import seeds
from geo3d.cloud import Layout, layout_of, make_batch
from geo3d.errors import CloudError, ConfigError
from geo3d.ops import native
from geo3d.ops.search.farthest import farthest_points, padded

BUILDS = [*native.builds(), None]


def switched(build):
    return native.using(build) if build else native.disabled()


def plain(pos: np.ndarray, num_samples: int, start: int) -> list[int]:
    """One cloud, one point at a time, in the cloud's own precision."""
    picks, best = [start], [np.inf] * len(pos)
    while len(picks) < min(num_samples, len(pos)):
        for i, p in enumerate(pos):
            dx, dy, dz = (p - pos[picks[-1]]) ** 2
            best[i] = min(best[i], dx + dy + dz)
        left = [i for i in range(len(pos)) if i not in picks]
        picks.append(max(left, key=lambda i: (best[i], -i)))
    return [picks[i % len(pos)] for i in range(num_samples)]


def clouds(sizes: list[int], dtype=torch.float32, seed: int = 0):
    pos = torch.randn(sum(sizes), 3, generator=seeds.generator(seed, "clouds"), dtype=dtype)
    return make_batch(pos, ptr=torch.tensor([0, *sizes]).cumsum(0))


@pytest.mark.parametrize("sizes", [[40, 40, 40], [40, 7, 1, 25]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("build", BUILDS)
def test_same_indices_as_the_plain_loop(sizes, dtype, build):
    batch = clouds(sizes, dtype)
    start = torch.tensor([size // 2 for size in sizes])
    for given, firsts in (("first", [0] * len(sizes)), (start, start.tolist())):
        with switched(build):
            found = farthest_points(batch.pos, layout_of(batch), 20, given).view(len(sizes), 20)
        for b, first in enumerate(firsts):
            cloud = batch.pos[batch.ptr[b] : batch.ptr[b + 1]].numpy()
            assert (found[b] - batch.ptr[b]).tolist() == plain(cloud, 20, first)


@pytest.mark.parametrize("build", native.builds())
@pytest.mark.parametrize("grid", [None, 0.25], ids=["anywhere", "many ties"])
@pytest.mark.parametrize("sizes, num_samples", [([1500, 1500], 700), ([5000, 1, 33, 700], 300), ([130, 64], 200)])
def test_boxes_change_nothing(sizes, num_samples, grid, build):
    batch = clouds(sizes, seed=1)
    pos = batch.pos if grid is None else (batch.pos / grid).round() * grid
    pos = pos + torch.tensor([100.0, 0, 0]) * (torch.arange(len(pos)) == 7)[:, None]  # far from the others
    for start in ("first", "farthest"):
        with native.using(build):
            found = farthest_points(pos, layout_of(batch), num_samples, start)
        with native.disabled():
            assert torch.equal(found, farthest_points(pos, layout_of(batch), num_samples, start))


@pytest.mark.parametrize("build", BUILDS)
def test_ties_go_to_the_lower_index_and_coincident_points_come_last(build):
    square = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
    with switched(build):
        assert farthest_points(square, Layout(torch.tensor([0, 5]), 5), 7).tolist() == [0, 1, 2, 3, 4, 0, 1]


@pytest.mark.parametrize("build", native.builds())
def test_same_picks_on_any_number_of_threads(build):
    batch, threads, found = clouds([600, 20, 1000, 3]), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with native.using(build):
                found.append(farthest_points(batch.pos, Layout(batch.ptr), 200))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize("build", BUILDS)
def test_large_samples_begin_with_small_ones(build):
    batch = clouds([900, 400, 20])
    with switched(build):
        many = farthest_points(batch.pos, Layout(batch.ptr), 500, start="farthest").view(3, 500)
        for few in (1, 30, 200):  # in one box and in many
            assert torch.equal(
                farthest_points(batch.pos, Layout(batch.ptr), few, start="farthest").view(3, few), many[:, :few]
            )


def test_random_start_is_drawn_from_the_generator():
    batch = clouds([40, 3, 1])
    draws = [
        farthest_points(batch.pos, Layout(batch.ptr), 2, start=seeds.generator(i)).view(3, 2)[:, 0] for i in range(60)
    ]
    assert torch.equal(
        draws[5], farthest_points(batch.pos, Layout(batch.ptr), 2, start=seeds.generator(5)).view(3, 2)[:, 0]
    )
    position = torch.stack(draws) - batch.ptr[:-1]
    assert bool((position >= 0).all()) and bool((position < batch.ptr.diff()).all())
    assert position[:, 1].unique().tolist() == [0, 1, 2] and len(position[:, 0].unique()) > 25


def test_samples_are_nested():
    batch = clouds([50, 50])
    many = farthest_points(batch.pos, Layout(batch.ptr, 50), 30).view(2, 30)
    assert torch.equal(farthest_points(batch.pos, Layout(batch.ptr, 50), 9).view(2, 9), many[:, :9])
    again = farthest_points(batch.pos[many.view(-1)], Layout(torch.tensor([0, 30, 60]), 30), 9)
    assert torch.equal(many.view(-1)[again].view(2, 9), many[:, :9])


@pytest.mark.parametrize("sizes", [[30, 30], [30, 12, 5]])
def test_geometric_start_does_not_see_the_order(sizes):
    batch = clouds(sizes, torch.float64)
    generator = seeds.generator(0, "order")
    order = torch.cat([torch.randperm(n, generator=generator) + o for n, o in zip(sizes, batch.ptr, strict=False)])
    one = farthest_points(batch.pos, layout_of(batch), 5, "farthest")
    other = farthest_points(batch.pos[order], layout_of(batch), 5, "farthest")
    assert torch.equal(batch.pos[one], batch.pos[order][other])
    for b, size in enumerate(sizes):
        cloud = batch.pos[batch.ptr[b] : batch.ptr[b + 1]]
        assert one.view(-1, 5)[b, 0] - batch.ptr[b] == (cloud - cloud.mean(0)).norm(dim=1).argmax(), size


@pytest.mark.parametrize("build", BUILDS)
def test_geometric_start_is_right_wherever_the_cloud_lies(build):
    """Far from the origin a centroid that is off by a share of itself lies outside of the cloud."""
    batch = clouds([50, 9, 3], seed=3)
    for shift in (0.0, 30.0, -30.0):
        pos = batch.pos + torch.tensor([shift, shift / 2, 0.0])
        with switched(build):
            found = farthest_points(pos, Layout(batch.ptr), 1, "farthest")
        for b, (start, end) in enumerate(zip(batch.ptr[:-1], batch.ptr[1:], strict=True)):
            cloud = pos[start:end].double()
            assert found[b] - start == (cloud - cloud.mean(0)).norm(dim=1).argmax()


def test_bad_options():
    batch = clouds([4])
    for options in ({"start": "last"}, {"start": torch.zeros(2)}, {"num_samples": 0}):
        with pytest.raises(ConfigError, match="found"):
            farthest_points(batch.pos, Layout(batch.ptr), **{"num_samples": 2, **options})


@pytest.mark.parametrize("build", BUILDS)
def test_bad_values(build):
    pos, ptr = torch.zeros(5, 3), torch.tensor([0, 2, 5])
    spoiled = pos.clone()
    spoiled[4, 1] = torch.nan
    cases = [
        (pos, ptr, torch.tensor([2, 0]), "out of range"),
        (pos, ptr, torch.tensor([0, -1]), "out of range"),
        (spoiled, ptr, "first", "NaN or infinite"),
        (spoiled, ptr, "farthest", "NaN or infinite"),
        (pos / 0, ptr, "first", "NaN or infinite"),
        (pos, torch.tensor([0, 2, 4]), "first", "offsets"),
        (pos, torch.tensor([0, 5, 5]), "farthest", "offsets"),
        (pos[:, :2], ptr, "first", "found shapes"),
    ]
    for points, offsets, start, message in cases:
        with switched(build), pytest.raises(CloudError, match=message):
            farthest_points(points, Layout(offsets), 2, start=start)
    with pytest.raises(CloudError, match="cannot be 2 clouds of 3"):
        farthest_points(pos, Layout(ptr, 3), 2)


@pytest.mark.parametrize("build", BUILDS)
def test_operators_keep_the_rules_of_torch(build):
    batch = clouds([12, 5])
    with switched(build):
        first = torch.ops.geo3d.farthest_from_centroid(batch.pos, batch.ptr, None)
        torch.library.opcheck(torch.ops.geo3d.farthest_from_centroid.default, (batch.pos, batch.ptr, None))
        torch.library.opcheck(torch.ops.geo3d.farthest_points.default, (batch.pos, batch.ptr, first, 4, None))


@pytest.mark.parametrize("start", ["first", "farthest"])
def test_one_graph(start):
    batch = clouds([20, 20])
    sampled = torch.compile(
        lambda pos, ptr: pos[farthest_points(pos, Layout(ptr, 20), 6, start)], backend="eager", fullgraph=True
    )
    assert torch.equal(
        sampled(batch.pos, batch.ptr), batch.pos[farthest_points(batch.pos, Layout(batch.ptr, 20), 6, start)]
    )


def test_padded_gives_gradients_back():
    x = torch.randn(6, 2, generator=seeds.generator(0, "x"), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: padded(x, torch.tensor([0, 1, 4, 6]), None, 0.0), x)
