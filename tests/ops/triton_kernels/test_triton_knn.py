import pytest
import torch
from support.triton_device import DEVICE, offsets

from geo3d.cloud import Layout
from geo3d.ops.search import knn as neighbors
from geo3d.ops.triton import knn as module
from geo3d.ops.triton.knn import knn


def found(x, ptr, k):
    return knn(x.to(DEVICE), ptr.to(DEVICE), k).cpu()


def distances(x, table):
    return (x[:, None].double() - x[table].double()).square().sum(2)


@pytest.mark.parametrize("channels", [1, 3, 7, 64])
@pytest.mark.parametrize(("sizes", "k"), [([40, 40], 5), ([1, 33, 6, 17], 8), ([3, 70], 1), ([21], 40)])
def test_neighbours_are_those_of_the_reference(channels, sizes, k):
    ptr = offsets(sizes)
    x = torch.randn(sum(sizes), channels, generator=torch.Generator().manual_seed(channels))
    table, expected = found(x, ptr, k), neighbors.knn(x, Layout(ptr), k)
    assert table.dtype == torch.int64
    torch.testing.assert_close(distances(x, table), distances(x, expected), rtol=1e-5, atol=1e-6)
    assert torch.equal(table, expected)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_equally_near_points_come_by_index(channels):
    x = torch.randint(0, 3, (50, channels), generator=torch.Generator().manual_seed(0)).float()
    ptr = offsets([31, 19])
    assert torch.equal(found(x, ptr, 12), neighbors.knn(x, Layout(ptr), 12))


def test_duplicates_of_features_come_after_the_point_itself():
    x = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))[torch.arange(20) % 5]
    table = found(x, offsets([20]), 4)
    assert torch.equal(table[:, 0], torch.arange(20))
    assert torch.equal(table % 5, torch.arange(20)[:, None].expand(-1, 4) % 5)


def test_features_far_from_the_origin_keep_their_neighbours():
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    ptr = offsets([25, 15])
    shifted = x + torch.tensor([3000.0, -5000.0])[torch.arange(40) // 25 % 2, None]
    expected = distances(shifted, neighbors.knn(shifted.double(), Layout(ptr), 6))
    torch.testing.assert_close(distances(shifted, found(shifted, ptr, 6)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [2, 5])
def test_many_neighbours_take_several_passes(channels, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 4)
    x = torch.randn(30, channels, generator=torch.Generator().manual_seed(0))
    if channels == 2:
        x = x.round()  # ties across passes
    ptr = offsets([3, 18, 9])
    assert torch.equal(found(x, ptr, 11), neighbors.knn(x, Layout(ptr), 11))


def test_more_points_than_a_tile_are_all_looked_at():
    x = torch.randn(150, 3, generator=torch.Generator().manual_seed(0)).sort(0, descending=True).values
    assert torch.equal(found(x, offsets([150]), 3), neighbors.knn(x, Layout(offsets([150])), 3))


@pytest.mark.parametrize("channels", [3, 5])
def test_points_nowhere_come_last_and_indices_stay_inside(channels):
    x = torch.randn(12, channels, generator=torch.Generator().manual_seed(0))
    x[4, 1], x[7, 0] = torch.nan, torch.inf
    table = found(x, offsets([12]), 12)
    assert torch.equal(table.sort(1).values, torch.arange(12).expand(12, 12))
    if channels == 3:
        good = [i for i in range(12) if i not in (4, 7)]
        assert set(table[good, -2:].flatten().tolist()) == {4, 7}


@pytest.mark.parametrize("ptr", [[0, 900], [-50, 10], [0, 7, 3, 10], [10, 0]])
def test_wrong_offsets_touch_nothing_outside(ptr):
    table = found(torch.zeros(10, 3), torch.tensor(ptr), 3)
    assert table.min() >= 0 and table.max() < 10


def test_an_empty_cloud_changes_nothing():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found(x, offsets([0, 30, 0, 0, 10, 0]), 5), neighbors.knn(x, Layout(offsets([30, 10])), 5))


def test_nothing_gives_nothing():
    assert found(torch.zeros(0, 3), torch.tensor([0]), 4).shape == (0, 4)
    assert found(torch.zeros(0, 3), torch.tensor([0, 0]), 4).shape == (0, 4)
