import pytest
import torch
from scipy.stats import chisquare

from geo3d import seeds
from geo3d.cloud import make_batch
from geo3d.invariance.order import order_within, pack, random_keys, sorted_rows, unpack
from geo3d.testing import tiny_batch

SIZES = {"uniform": [32] * 3, "ragged": [1, 17, 40], "single points": [1, 1], "one cloud": [50]}
sizes = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)


def plain(keys, batch):
    """Each cloud sorted separately."""
    parts = [slice(int(a), int(b)) for a, b in zip(batch.ptr[:-1], batch.ptr[1:], strict=True)]
    return torch.cat([part.start + keys[part].argsort(stable=True) for part in parts])


@sizes
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32, torch.int64])
def test_order_within_is_a_stable_sort_of_each_cloud(sizes, dtype):
    batch = tiny_batch(num_points=sizes)
    keys = (torch.randint(-9, 9, (len(batch.pos),), generator=seeds.generator(0)).double() / 3).to(dtype)
    assert torch.equal(order_within(keys, batch), plain(keys, batch))


@sizes
def test_order_of_extreme_numbers(sizes):
    batch = tiny_batch(num_points=sizes)
    extreme = torch.tensor([float("inf"), 1e-45, -1e-45, 0.0, -0.0, 3e38, -3e38, float("-inf"), 1.0, -1.0])
    keys = extreme[torch.randint(0, 10, (len(batch.pos),), generator=seeds.generator(1))]
    assert torch.equal(order_within(keys, batch), plain(keys, batch))
    whole = torch.tensor([-(2**31), 2**31 - 1, 0, -1], dtype=torch.int32)
    keys = whole[torch.randint(0, 4, (len(batch.pos),), generator=seeds.generator(2))]
    assert torch.equal(order_within(keys, batch), plain(keys, batch))


def test_order_of_more_clouds_than_fit_into_one_number():
    sizes = torch.tensor([1, 2, 1] * 12000)
    batch = make_batch(torch.zeros(int(sizes.sum()), 3), ptr=torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]))
    keys = random_keys(batch, seeds.generator(0))
    assert pack(keys, batch) is None
    order = order_within(keys, batch)
    assert torch.equal(batch.batch[order], batch.batch)
    assert torch.equal(order.sort().values, torch.arange(len(order)))
    within = batch.batch[order][1:] == batch.batch[order][:-1]
    assert (keys[order].diff()[within] >= 0).all()


@pytest.mark.parametrize("first", [1, 7, 31, 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_first_ones_of_each_cloud(first, dtype):
    batch = tiny_batch(num_points=32)
    keys = torch.randint(0, 9, (96,), generator=seeds.generator(0)).to(dtype)
    expected = plain(keys, batch).view(3, 32)[:, :first].reshape(-1)
    assert torch.equal(order_within(keys, batch, first), expected)


@sizes
def test_packed_numbers_differ_and_carry_their_indices(sizes):
    batch = tiny_batch(num_points=sizes)
    packed = pack(torch.zeros(len(batch.pos)), batch)
    assert len(packed.unique()) == len(packed)
    assert torch.equal(unpack(packed, batch), torch.arange(len(packed)))


def test_sorted_rows_are_the_sort():
    rows = torch.randint(-(2**62), 2**62, (5, 40), generator=seeds.generator(0))
    before = rows.clone()
    for count in (None, 1, 39, 40):
        assert torch.equal(sorted_rows(rows, count), rows.sort(dim=1).values[:, :count])
    assert torch.equal(rows, before)


def test_random_keys_fill_their_range():
    batch = make_batch(torch.zeros(20000, 3), num_points=20000)
    keys = random_keys(batch, seeds.generator(0))
    assert keys.dtype == torch.int32 and keys.min() >= 0 and keys.max() > 0.99 * 2**31
    assert chisquare(torch.bincount(keys.long() >> 24, minlength=128).numpy()).pvalue > 0.01
