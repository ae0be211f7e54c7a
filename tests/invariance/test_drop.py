import math

import pytest
import torch
from scipy.stats import chisquare, kstest

from geo3d import seeds
from geo3d.invariance import DensityGradient, Drop, Resample
from geo3d.invariance.draws import uniform
from geo3d.testing import tiny_batch

sizes = pytest.mark.parametrize("sizes", [32, [1, 17, 40]], ids=["uniform", "ragged"])


@pytest.mark.parametrize("invariance", [Drop(0.8), DensityGradient(0.8)], ids=repr)
@sizes
def test_dropped_counts_are_exact(invariance, sizes):
    batch = tiny_batch(num_points=sizes)
    out = invariance(batch, seeds.generator(5))
    ratio = 1 - uniform(batch, seeds.generator(5), high=0.8)
    expected = [math.ceil(r * n) for r, n in zip(ratio.tolist(), batch.ptr.diff().tolist(), strict=True)]
    assert out.ptr.diff().tolist() == expected
    assert (out.point_id.diff() > 0).all()  # the order is kept


def test_dropping_everything_leaves_a_point():
    batch = tiny_batch(num_points=[1, 2, 50] * 50)
    for seed in range(3):
        assert (Drop(1.0)(batch, seeds.generator(seed)).ptr.diff() >= 1).all()


def test_drop_ratio_is_uniform_and_every_point_is_as_likely():
    batch = tiny_batch(num_clouds=500, num_points=100)
    out = Drop(0.5)(batch, seeds.generator(0))
    shares = 1 - out.ptr.diff() / 100
    assert kstest(shares.numpy(), "uniform", args=(0, 0.5)).pvalue > 0.01
    place = torch.bincount(out.point_id % 100, minlength=100)
    assert chisquare(place.numpy()).pvalue > 0.01


def test_resample_gives_one_size_where_it_can():
    enough = tiny_batch(num_points=[20, 8, 31])
    out = Resample(8)(enough, seeds.generator(0))
    assert out.num_points == 8 and out.ptr.tolist() == [0, 8, 16, 24]
    short = tiny_batch(num_points=[20, 5, 31])
    out = Resample(8)(short, seeds.generator(0))
    assert out.get("num_points") is None and out.ptr.tolist() == [0, 8, 13, 21]
    few = Resample(50)(tiny_batch(num_points=32), seeds.generator(0))
    assert few.num_points == 32 and len(few.point_id.unique()) == 96


@pytest.mark.parametrize("sizes", [[6] * 4000, [6] * 4000 + [9]], ids=["uniform", "ragged"])
def test_every_ordered_choice_is_as_likely(sizes):
    batch = tiny_batch(num_points=sizes)
    out = Resample(2)(batch, seeds.generator(0))
    pairs = (out.point_id - batch.ptr[out.batch])[:8000].view(-1, 2)
    _, counts = (pairs[:, 0] * 6 + pairs[:, 1]).unique(return_counts=True)
    assert len(counts) == 30 and chisquare(counts.numpy()).pvalue > 0.01
