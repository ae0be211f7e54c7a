"""Neighbour tables against a plain loop in float64."""

import pytest
import torch
from torch import Tensor

from geo3d.errors import CloudError
from geo3d.ops import neighbors
from geo3d.ops.neighbors import chunks, degree, knn, knn_query, select_smallest, to_edge_index

SIZES = {"uniform": [40, 40, 40], "ragged": [40, 1, 7, 300, 33], "one": [25], "large": [600, 600], "mixed": [520, 513]}


def clouds(sizes: list[int], channels: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(sizes), channels, generator=draw, dtype=dtype)
    return x, torch.tensor([0, *sizes]).cumsum(0)


def plain(x: Tensor, ptr_x: Tensor, y: Tensor, ptr_y: Tensor, k: int) -> Tensor:
    rows = []
    for b in range(len(ptr_x) - 1):
        points, queries = x[ptr_x[b] : ptr_x[b + 1]], y[ptr_y[b] : ptr_y[b + 1]]
        for query in queries:
            order = ((points - query) ** 2).sum(1).sort(stable=True).indices
            rows.append(order[torch.arange(k) % len(order)] + ptr_x[b])
    return torch.stack(rows)


@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize("name", SIZES)
def test_equals_plain_search(name: str, channels: int) -> None:
    x, ptr = clouds(SIZES[name], channels)
    for k in (1, 5, 20):
        assert torch.equal(knn(x, ptr, k), plain(x, ptr, x, ptr, k))


@pytest.mark.parametrize("sizes", [[40, 40], [600, 600]])
def test_known_size_gives_the_same(sizes: list[int]) -> None:
    x, ptr = clouds(sizes, 3)
    assert torch.equal(knn(x, ptr, 6, num_points=sizes[0]), knn(x, ptr, 6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SIZES)
def test_ties_go_to_the_lower_index(name: str, dtype: torch.dtype) -> None:
    x, ptr = clouds(SIZES[name], 3)
    x = x.mul(1.5).round().to(dtype)  # a coarse grid: many duplicates and equal distances, all exact
    for k in (1, 4, 20):
        assert torch.equal(knn(x, ptr, k), plain(x, ptr, x, ptr, k))


def test_float32_features_are_nearest_up_to_rounding() -> None:
    x, ptr = clouds([300, 300, 17], 64, dtype=torch.float32)
    x += 20  # far from the origin
    table = knn(x, ptr, 10)
    assert torch.equal(table[:, 0], torch.arange(len(x)))

    def distance(table: Tensor) -> Tensor:
        return (x.double()[table] - x.double()[:, None]).square().sum(2)

    best = plain(x.double(), ptr, x.double(), ptr, 10)
    torch.testing.assert_close(distance(table), distance(best), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("channels", [3, 8])
@pytest.mark.parametrize("queries", [[5, 9, 2], [8, 8, 8]])
@pytest.mark.parametrize("points", [[40, 3, 20], [20, 20, 20]])
def test_queries_equal_plain_search(points: list[int], queries: list[int], channels: int) -> None:
    x, ptr_x = clouds(points, channels)
    y, ptr_y = clouds(queries, channels, seed=1)
    assert torch.equal(knn_query(x, ptr_x, y, ptr_y, 4), plain(x, ptr_x, y, ptr_y, 4))


def test_one_large_cloud_is_searched_in_slices() -> None:
    x, ptr = clouds([5000], 4, dtype=torch.float32)
    table = knn(x, ptr, 3)
    some = torch.tensor([0, 999, 4999])
    distance = (x.double()[some, None] - x.double()).square().sum(2)
    assert torch.equal(table[some], distance.topk(3, largest=False).indices)


def test_half_precision_is_searched_in_float32() -> None:
    x, ptr = clouds([50, 50], 8, dtype=torch.float32)
    half = x.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = knn(half, ptr, 5)
    assert torch.equal(found, knn(half.float(), ptr, 5))


def test_no_gradient_and_no_bad_k() -> None:
    x, ptr = clouds([9], 3)
    assert not knn(x.requires_grad_(), ptr, 2).requires_grad
    with pytest.raises(CloudError, match="at least 1"):
        knn(x, ptr, 0)
    with pytest.raises(CloudError, match="clouds"):
        knn_query(x, ptr, x, torch.tensor([0, 4, 9]), 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("columns", [5, 64, 401])
def test_selection(columns: int, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(50, columns, generator=draw, dtype=dtype)
    values[10:30] = values[10:30].round()
    values[20:25] *= 0.0  # zeros of both signs are equal
    if columns > 10:
        values[30:32, columns // 2 :] = torch.inf
    expected = values.sort(dim=1, stable=True).indices
    for k in (1, 4, 5):
        assert torch.equal(select_smallest(values, k), expected[:, :k])
        assert torch.equal(neighbors._select_exactly(values, k), expected[:, :k])


def test_chunks_cover_every_cloud_once_with_bounded_padding() -> None:
    sizes = [3, 500, 4, 5, 490, 3, 3, 1]
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    seen: list[int] = []
    for chunk in chunks(ptr, ptr, elements=1000):
        b, n = chunk.x.shape
        real = [n] * b if chunk.x_size is None else chunk.x_size.tolist()
        assert b == 1 or b * n * n <= max(1000, 1.5 * sum(size * size for size in real))
        for row, size in zip(chunk.x.tolist(), real, strict=True):
            seen += row[:size]
            assert set(row[size:]) <= {row[size - 1]}
    assert sorted(seen) == list(range(sum(sizes)))


def test_edges_point_from_neighbour_to_point() -> None:
    x, ptr = clouds([6, 5], 3)
    table = knn(x, ptr, 3)
    source, target = to_edge_index(table)
    assert torch.equal(target, torch.arange(11).repeat_interleave(3))
    assert torch.equal(source.view(11, 3), table)
    assert torch.equal(degree(table, 11), torch.tensor([int((table == j).sum()) for j in range(11)]))
