import pytest
import torch
from support.triton_device import DEVICE, offsets

from geo3d.cloud import Layout
from geo3d.ops.search import farthest as sampling
from geo3d.ops.triton import fps as module
from geo3d.ops.triton.fps import farthest_points


def picked(pos, ptr, num_samples, first, max_points=None):
    return farthest_points(pos.to(DEVICE), ptr.to(DEVICE), num_samples, first.to(DEVICE), max_points).cpu()


CLOUDS = [([40, 40], 15), ([1, 33, 6, 17], 9), ([30], 30), ([5, 3], 12), ([50], 1)]


@pytest.mark.parametrize("resident", [True, False], ids=["in registers", "in tiles"])
@pytest.mark.parametrize(("sizes", "num_samples"), CLOUDS)
def test_picks_are_those_of_the_reference(sizes, num_samples, resident, monkeypatch):
    if not resident:
        monkeypatch.setattr(module, "RESIDENT", 0)
        monkeypatch.setattr(module, "TILE", 32)
    draw = torch.Generator().manual_seed(0)
    pos, ptr = torch.randn(sum(sizes), 3, generator=draw), offsets(sizes)
    first = torch.tensor([int(torch.randint(n, (1,), generator=draw)) for n in sizes])
    expected = sampling.farthest_points(pos, Layout(ptr), num_samples, start=first)
    assert torch.equal(picked(pos, ptr, num_samples, first), expected)
    assert torch.equal(picked(pos, ptr, num_samples, first, max(sizes)), expected)


@pytest.mark.parametrize("resident", [True, False], ids=["in registers", "in tiles"])
def test_ties_go_to_the_lower_index_and_no_point_is_picked_twice(resident, monkeypatch):
    if not resident:
        monkeypatch.setattr(module, "RESIDENT", 0)
        monkeypatch.setattr(module, "TILE", 8)
    pos = torch.randint(0, 2, (37, 3), generator=torch.Generator().manual_seed(0)).float()  # 8 places for 37 points
    ptr, first = offsets([20, 17]), torch.tensor([3, 0])
    found = picked(pos, ptr, 17, first, 20)
    assert torch.equal(found, sampling.farthest_points(pos, Layout(ptr), 17, start=first))
    assert len(set(found.tolist())) == 34


def test_wrong_arguments_touch_nothing_outside():
    pos = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    for ptr, first in (([0, 99], 5), ([-9, 12], 700), ([0, 12], -3), ([6, 6], 0)):
        found = picked(pos, torch.tensor(ptr), 20, torch.tensor([first]))
        assert found.shape == (20,) and found.min() >= 0 and found.max() < 12
    found = picked(pos.index_fill(0, torch.tensor([2, 7]), torch.nan), offsets([12]), 20, torch.tensor([0]))
    assert found.min() >= 0 and found.max() < 12


def test_nothing_gives_nothing():
    assert picked(torch.zeros(0, 3), torch.tensor([0]), 4, torch.zeros(0, dtype=torch.int64)).shape == (0,)
