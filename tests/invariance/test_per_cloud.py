import pytest
import torch
from scipy.stats import chisquare

from geo3d import seeds
from geo3d.invariance.per_cloud import order_within, random_points, reduce_clouds
from geo3d.testing import tiny_batch

sizes = pytest.mark.parametrize("sizes", [32, [1, 17, 40]], ids=["uniform", "ragged"])


def parts(batch):
    return [slice(int(a), int(b)) for a, b in zip(batch.ptr[:-1], batch.ptr[1:], strict=True)]


@sizes
def test_order_within_is_a_stable_sort_of_each_cloud(sizes):
    batch = tiny_batch(num_points=sizes)
    keys = torch.randint(0, 9, (len(batch.pos),), generator=seeds.generator(0)).double() / 7
    expected = [p.start + keys[p].argsort(stable=True) for p in parts(batch)]
    assert torch.equal(order_within(keys, batch), torch.cat(expected))
    assert torch.equal(order_within(keys.float(), batch), torch.cat(expected))


@sizes
def test_reduce_clouds_is_the_loop(sizes):
    batch = tiny_batch(num_points=sizes, dtype=torch.float64)
    for how, function in (("mean", torch.mean), ("min", torch.amin), ("max", torch.amax)):
        expected = torch.stack([function(batch.pos[p], 0) for p in parts(batch)])
        assert torch.allclose(reduce_clouds(batch.pos, batch, how), expected)


def test_random_points_are_uniform_within_their_clouds():
    batch = tiny_batch(num_points=[1, 5] * 1500)
    points = random_points(batch, seeds.generator(0))
    assert torch.equal(batch.batch[points], torch.arange(3000))
    _, counts = (points - batch.ptr[:-1])[1::2].unique(return_counts=True)
    assert len(counts) == 5 and chisquare(counts.numpy()).pvalue > 0.01
