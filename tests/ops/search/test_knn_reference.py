"""The torch search in float64, where it is exact, and its parts."""

import pytest
import torch
from torch import Tensor

from geo3d.cloud import Layout
from geo3d.ops.search import knn_reference as neighbors_reference
from geo3d.ops.search.knn import knn
from geo3d.ops.search.knn_reference import chunks, select_smallest

SIZES = {"uniform": [40, 40, 40], "ragged": [40, 1, 7, 300, 33], "one": [25], "large": [600, 600]}


def plain(x: Tensor, ptr: Tensor, k: int) -> Tensor:
    rows = []
    for b in range(len(ptr) - 1):
        points = x[ptr[b] : ptr[b + 1]]
        order = ((points - points[:, None]) ** 2).sum(2).sort(dim=1, stable=True).indices
        rows.append(order[:, torch.arange(k) % len(points)] + ptr[b])
    return torch.cat(rows)


@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize("name", SIZES)
def test_float64_equals_plain_search(name: str, channels: int) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(sum(SIZES[name]), channels, generator=draw, dtype=torch.float64)
    ptr = torch.tensor([0, *SIZES[name]]).cumsum(0)
    for k in (1, 5, 20):
        assert torch.equal(knn(x, Layout(ptr), k), plain(x, ptr, k))
    if channels == 3:
        x = x.mul(1.5).round()  # a coarse grid: many duplicates and equal distances, all exact
        assert torch.equal(knn(x, Layout(ptr), 20), plain(x, ptr, 20))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("columns", [5, 64, 401])
def test_selection(columns: int, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(50, columns, generator=draw, dtype=dtype)
    values[10:30] = values[10:30].round()
    values[20:25] *= 0.0  # zeros of both signs are equal
    if columns > 10:
        values[30:32, columns // 2 :] = torch.inf
    values[40, 3] = -torch.inf
    expected = values.sort(dim=1, stable=True).indices
    for k in (1, 4, 5):
        assert torch.equal(select_smallest(values, k), expected[:, :k])
        assert torch.equal(neighbors_reference._select_exactly(values, k), expected[:, :k])


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
