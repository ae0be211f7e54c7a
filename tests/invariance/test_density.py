import math

import pytest
import torch
from scipy.stats import chisquare

from geo3d import seeds
from geo3d.cloud import make_batch
from geo3d.invariance import DensityGradient
from geo3d.invariance.draws import directions, uniform
from geo3d.testing import tiny_batch


def test_density_falls_along_the_direction_as_weights_say():
    n = 4000  # clouds of two points; if one is kept, the odds that it is the lower one are those of the weights
    pos = torch.tensor([[-1.0, -1, -1], [1, 1, 1]], dtype=torch.float64).repeat(n, 1)
    batch = make_batch(pos, num_points=2)
    out = DensityGradient(1.0, slope=2.0)(batch, seeds.generator(0))
    generator = seeds.generator(0)
    uniform(batch, generator)  # the fractions are drawn first
    first_is_low = directions(batch, generator).sum(1) > 0
    single = out.ptr.diff() == 1
    assert 0.45 < single.double().mean() < 0.55
    first_stays = out.point_id[out.ptr[:-1]] % 2 == 0
    low_stays = (first_stays == first_is_low)[single].double().mean().item()
    expected = 1 / (1 + math.exp(-2.0))
    assert low_stays == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / int(single.sum())))


def test_density_is_a_weighted_draw_without_replacement():
    # three collinear points at t = 0, 1/2, 1; if two are kept, their probabilities are those of two draws in turn
    n = 6000
    line = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]], dtype=torch.float64)
    batch = make_batch(line.repeat(n, 1), num_points=3)
    out = DensityGradient(1.0, slope=3.0)(batch, seeds.generator(1))
    generator = seeds.generator(1)
    uniform(batch, generator)
    up = directions(batch, generator)[:, 0] > 0
    rank = torch.where(up[out.batch], out.point_id % 3, 2 - out.point_id % 3)
    two = out.ptr.diff() == 2
    missing = 3 - torch.zeros(n, dtype=torch.int64).index_add(0, out.batch, rank)[two]
    weight = [math.exp(-3 * t) for t in (0.0, 0.5, 1.0)]
    total = sum(weight)

    def pair(i, j):
        return weight[i] / total * weight[j] / (total - weight[i]) + weight[j] / total * weight[i] / (total - weight[j])

    counts = torch.bincount(missing, minlength=3).double()
    expected = torch.tensor([pair(1, 2), pair(0, 2), pair(0, 1)], dtype=torch.float64) * counts.sum()
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > 0.01


def test_density_without_slope_is_a_plain_drop():
    batch = tiny_batch(num_clouds=300, num_points=50)
    out = DensityGradient(0.8, slope=0.0)(batch, seeds.generator(0))
    assert chisquare(torch.bincount(out.point_id % 50, minlength=50).numpy()).pvalue > 0.01
