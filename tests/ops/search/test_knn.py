"""Neighbour tables of every build and of the torch reference, against a plain loop in float64."""

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from torch import Tensor

from geo3d.cloud import Layout
from geo3d.errors import CloudError
from geo3d.ops import native
from geo3d.ops.search import knn as neighbors
from geo3d.ops.search.knn import degree, knn, knn_query, to_edge_index

SIZES = {"uniform": (40, 40, 40), "ragged": (40, 1, 7, 300, 33), "one": (25,), "mixed": (280, 257)}


@pytest.fixture(params=[*native.builds(), None], ids=str)
def build(request: pytest.FixtureRequest) -> Iterator[str | None]:
    with native.using(request.param) if request.param else native.disabled():
        yield request.param


@cache
def clouds(sizes: tuple[int, ...], channels: int, seed: int = 0, coarse: bool = False) -> tuple[Tensor, Tensor]:
    """Random rows; coarse ones have many duplicates and equal distances, all exact."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(sizes), channels, generator=draw)
    return x.mul(1.5).round() if coarse else x, torch.tensor([0, *sizes]).cumsum(0)


def plain(x: Tensor, ptr_x: Tensor, y: Tensor, ptr_y: Tensor, k: int, own: bool = False) -> Tensor:
    """With ``own``, every row is its own first neighbour."""
    rows = []
    for b in range(len(ptr_x) - 1):
        points, queries = (t[p[b] : p[b + 1]].double() for t, p in ((x, ptr_x), (y, ptr_y)))
        distance = ((points - queries[:, None]) ** 2).sum(2)
        if own:
            distance.fill_diagonal_(-1)
        order = distance.sort(dim=1, stable=True).indices
        rows.append(order[:, torch.arange(k) % order.shape[1]] + ptr_x[b])
    return torch.cat(rows)


@cache
def expected_own(sizes: tuple[int, ...], channels: int, k: int) -> Tensor:
    x, ptr = clouds(sizes, channels)
    return plain(x, ptr, x, ptr, k)


def assert_as_near(found: Tensor, expected: Tensor, x: Tensor, y: Tensor, period: int) -> None:
    """Rows as near as the expected ones up to rounding, without repetition within a period."""
    distance, best = ((x.double()[table] - y.double()[:, None]).square().sum(2) for table in (found, expected))
    torch.testing.assert_close(distance, best, rtol=1e-5, atol=1e-4)
    assert found[:, :period].sort(1).values.diff(dim=1).gt(0).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 16, 67])
@pytest.mark.parametrize("name", SIZES)
def test_equals_plain_search(build: str | None, name: str, channels: int) -> None:
    x, ptr = clouds(SIZES[name], channels)
    for k in (1, 5, 20):
        found = knn(x, Layout(ptr), k)
        assert_as_near(found, expected_own(SIZES[name], channels, k), x, x, min(k, *SIZES[name]))
        assert torch.equal(found[:, 0], torch.arange(len(x)))


@pytest.mark.parametrize("channels", [3, 8])
def test_known_size_gives_the_same(build: str | None, channels: int) -> None:
    x, ptr = clouds((60, 60), channels)
    assert torch.equal(knn(x, Layout(ptr, 60), 6), knn(x, Layout(ptr), 6))


@pytest.mark.parametrize("tree_from", [1, 1 << 40])
@pytest.mark.parametrize("name", SIZES)
def test_ties_go_to_the_lower_index(
    build: str | None, name: str, tree_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbors, "TREE_FROM", tree_from)
    x, ptr = clouds(SIZES[name], 3, coarse=True)
    for k in (1, 4, 20, 130):
        assert torch.equal(knn(x, Layout(ptr), k), plain(x, ptr, x, ptr, k))


def test_a_feature_is_its_own_first_neighbour(build: str | None) -> None:
    base = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    x, ptr = base.repeat(16, 1), torch.tensor([0, 64])  # sixteen copies of each
    found = knn(x, Layout(ptr), 5)
    assert torch.equal(found[:, 0], torch.arange(64))
    assert torch.equal(found[:, 1:] % 4, torch.arange(64)[:, None].expand(-1, 4) % 4)
    assert torch.equal(found, plain(x, ptr, x, ptr, 5, own=True))


def test_features_far_from_the_origin(build: str | None) -> None:
    x, ptr = clouds((300, 300, 17), 64)
    x = x + 20
    assert_as_near(knn(x, Layout(ptr), 10), plain(x, ptr, x, ptr, 10), x, x, 10)


@pytest.mark.parametrize("channels", [3, 8])
@pytest.mark.parametrize("queries", [(5, 9, 2), (8, 8, 8), (100, 1, 31)])
@pytest.mark.parametrize("points", [(40, 3, 20), (200, 65, 64)])
def test_queries_equal_plain_search(
    build: str | None,
    points: tuple[int, ...],
    queries: tuple[int, ...],
    channels: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (x, ptr_x), (y, ptr_y) = clouds(points, channels), clouds(queries, channels, seed=1)
    expected = plain(x, ptr_x, y, ptr_y, 4)
    for tree_from in (1, 1 << 40):
        monkeypatch.setattr(neighbors, "TREE_FROM", tree_from)
        assert_as_near(knn_query(x, Layout(ptr_x), y, Layout(ptr_y), 4), expected, x, y, 3)


def shapes() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    ball, line = torch.randn(1700, 3, generator=draw), torch.rand(1700, 1, generator=draw)
    return {
        "surface": ball / ball.norm(dim=1, keepdim=True),
        "equal": torch.full((1700, 3), 0.5),
        "half equal": torch.cat([ball[:800], torch.zeros(900, 3)]),
        "line": line * torch.tensor([1.0, 2.0, -1.0]),
        "scales": ball * 10 ** (line * 12 - 6),
        "outliers": torch.cat([ball[:1695], ball[1695:] * 1e6]),
        "grid": (ball * 2).round(),
        "tiny": ball * 1e-30,  # squares underflow
        "huge": ball * 1e30,  # squares overflow
    }


@pytest.mark.parametrize("build", native.builds(), indirect=True)  # the reference has no tree
@pytest.mark.parametrize("name", shapes())
def test_tree_finds_what_all_distances_do(build: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, ptr = shapes()[name], torch.tensor([0, 1700])
    y = torch.cat([x[:200] + 0.01, x[-50:]])
    ptr_y = torch.tensor([0, 250])
    found = []
    for tree_from in (1, 1 << 40):
        monkeypatch.setattr(neighbors, "TREE_FROM", tree_from)
        found.append((knn(x, Layout(ptr), 20), knn_query(x, Layout(ptr), y, Layout(ptr_y), 7)))
    (own, other), (all_own, all_other) = found
    assert torch.equal(own, all_own)
    assert torch.equal(other, all_other)


def test_large_cloud(build: str | None) -> None:
    draw = torch.Generator().manual_seed(0)
    some = torch.tensor([0, 999, 4999])
    for channels in (3, 4):
        x = torch.randn(5000, channels, generator=draw)
        distance = (x.double()[some, None] - x.double()).square().sum(2)
        assert torch.equal(knn(x, Layout(torch.tensor([0, 5000])), 3)[some], distance.topk(3, largest=False).indices)


@pytest.mark.parametrize("channels", [3, 40])
def test_threads_do_not_change_a_bit(build: str | None, channels: int) -> None:
    x, ptr = clouds((1600, 30, 300), channels)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(knn(x, Layout(ptr), 9))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_half_precision_is_searched_in_float32(build: str | None) -> None:
    x, ptr = clouds((50, 50), 8)
    half = x.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = knn(half, Layout(ptr), 5)
    assert torch.equal(found, knn(half.float(), Layout(ptr), 5))


def test_rows_need_not_be_dense(build: str | None) -> None:
    x, ptr = clouds((50, 50), 8)
    assert torch.equal(knn(x[:, ::2], Layout(ptr), 5), knn(x[:, ::2].contiguous(), Layout(ptr), 5))


@pytest.mark.parametrize("channels", [2, 3, 7])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_refused(build: str | None, channels: int, wrong: float) -> None:
    x, ptr = clouds((30, 30), channels)
    bad = x.clone()
    bad[45, 1] = wrong
    with pytest.raises(CloudError, match="input of knn holds NaN"):
        knn(bad, Layout(ptr), 3)
    for points, queries in ((bad, x), (x, bad)):
        with pytest.raises(CloudError, match="input of knn_query holds NaN"):
            knn_query(points, Layout(ptr), queries, Layout(ptr), 3)


def test_no_gradient_and_no_bad_arguments(build: str | None) -> None:
    x, ptr = clouds((9,), 3)
    assert not knn(x.clone().requires_grad_(), Layout(ptr), 2).requires_grad
    with pytest.raises(CloudError, match="at least 1"):
        knn(x, Layout(ptr), 0)
    with pytest.raises(CloudError, match="clouds"):
        knn_query(x, Layout(ptr), x, Layout(torch.tensor([0, 4, 9])), 1)
    with pytest.raises(CloudError, match="matrix|points"):
        knn(x[0], Layout(ptr), 1)
    if build:
        for wrong in ([0, 8], [1, 9], [0, 9, 9], [0, 5, 4, 9]):
            with pytest.raises(CloudError, match="offsets"):
                knn(x, Layout(torch.tensor(wrong)), 1)


def test_operators_are_complete(build: str | None) -> None:
    (x, ptr), (y, ptr_y) = clouds((30, 20), 3), clouds((5, 6), 3, seed=1)
    torch.library.opcheck(torch.ops.geo3d.knn, (x, ptr, 4), {"num_points": None})
    torch.library.opcheck(torch.ops.geo3d.knn_query, (x, ptr, y, ptr_y, 4))


def test_compiles_without_a_break(build: str | None) -> None:
    x, ptr = clouds((30, 30), 3)
    compiled = torch.compile(lambda x, ptr: knn(x * 2, Layout(ptr, 30), 4) + 1, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x, ptr), knn(x * 2, Layout(ptr), 4) + 1)


def test_edges_point_from_neighbour_to_point() -> None:
    x, ptr = clouds((6, 5), 3)
    table = knn(x, Layout(ptr), 3)
    source, target = to_edge_index(table)
    assert torch.equal(target, torch.arange(11).repeat_interleave(3))
    assert torch.equal(source.view(11, 3), table)
    assert torch.equal(degree(table, 11), torch.tensor([int((table == j).sum()) for j in range(11)]))
