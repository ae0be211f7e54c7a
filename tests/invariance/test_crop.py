import math

import pytest
import torch

from geo3d import seeds
from geo3d.invariance import CropCuboid, CropKNN
from geo3d.invariance.draws import random_points, uniform
from geo3d.testing import tiny_batch

sizes = pytest.mark.parametrize("sizes", [32, [1, 17, 40]], ids=["uniform", "ragged"])


def parts(batch):
    return [slice(int(a), int(b)) for a, b in zip(batch.ptr[:-1], batch.ptr[1:], strict=True)]


@sizes
def test_crop_knn_keeps_the_nearest(sizes):
    batch = tiny_batch(num_points=sizes, dtype=torch.float64)
    kept = CropKNN(0.3, 0.6).sample(batch, seeds.generator(0))
    generator = seeds.generator(0)
    ratio = uniform(batch, generator, low=0.3, high=0.6)
    centers = random_points(batch, generator)
    expected = []
    for p, center, r in zip(parts(batch), centers, ratio, strict=True):
        distance = torch.stack([(x - batch.pos[center]).norm() for x in batch.pos[p]])
        expected.append(p.start + distance.argsort()[: math.ceil(r * len(distance))].sort().values)
    assert torch.equal(kept.points, torch.cat(expected))


@sizes
def test_crop_cuboid_keeps_just_what_an_upright_cuboid_holds(sizes):
    batch = tiny_batch(num_points=sizes, dtype=torch.float64)
    invariance = CropCuboid(0.3, 0.6, aspect=2.0)
    kept = invariance.sample(batch, seeds.generator(0))
    generator = seeds.generator(0)
    ratio = uniform(batch, generator, low=0.3, high=0.6)
    stretch = (math.log(2.0) * uniform(batch, generator, 3, low=-1, high=1)).exp()
    centers = random_points(batch, generator)
    inside = torch.zeros(len(batch.pos), dtype=torch.bool)
    inside[kept.points] = True
    for i, p in enumerate(parts(batch)):
        pos = batch.pos[p]
        extent = pos.amax(0) - pos.amin(0)
        assert inside[p].sum() == math.ceil(ratio[i] * len(pos))
        assert inside[centers[i]]
        if len(pos) > 1:
            reach = ((pos - batch.pos[centers[i]]).abs() / (extent * stretch[i])).amax(1)
            assert reach[inside[p]].max() < reach[~inside[p]].min()
            assert (stretch[i] / stretch[i].roll(1)).min() >= 0.25 and stretch[i].max() <= 2


def test_crop_cuboid_of_flat_clouds():
    batch = tiny_batch(num_points=[30, 40])
    batch.pos[:, 2] = 1.0
    batch.pos[30:, 1] = 0.0
    out = CropCuboid(0.5, 0.5)(batch, seeds.generator(0))
    assert out.ptr.diff().tolist() == [15, 20]
    line = out.pos[out.batch == 1, 0].sort().values
    rest = batch.pos[30:, 0]
    between = (rest >= line[0]) & (rest <= line[-1])
    assert between.sum() == 20  # an interval of the line


@pytest.mark.parametrize(
    "invariance", [CropKNN(0.1, 0.2, min_points=12), CropCuboid(0.1, 0.2, min_points=12)], ids=repr
)
def test_crops_respect_the_least_number(invariance):
    out = invariance(tiny_batch(num_points=[5, 20, 100]), seeds.generator(0))
    assert out.ptr.diff().tolist()[:2] == [5, 12] and 12 <= out.ptr.diff()[2] <= 20
