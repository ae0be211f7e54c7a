import pytest
import torch
from scipy.stats import chisquare

from geo3d import seeds
from geo3d.geometry.per_cloud import by_cloud, reduce_clouds
from geo3d.invariance.draws import directions, random_points
from geo3d.testing import tiny_batch

sizes = pytest.mark.parametrize("sizes", [32, 7, [1, 17, 40]], ids=["uniform", "odd", "ragged"])


def parts(batch):
    return [slice(int(a), int(b)) for a, b in zip(batch.ptr[:-1], batch.ptr[1:], strict=True)]


@sizes
def test_reduce_clouds_is_the_loop(sizes):
    batch = tiny_batch(num_points=sizes, dtype=torch.float64)
    for values in (batch.pos, batch.pos[:, 0], batch.pos[:, :1], batch.normal.T.contiguous().T):
        for how, function in (("mean", torch.mean), ("min", torch.amin), ("max", torch.amax)):
            expected = torch.stack([function(values[p], 0) for p in parts(batch)])
            reduced = reduce_clouds(values, batch, how)
            assert reduced.shape == expected.shape and torch.allclose(reduced, expected)


@sizes
@pytest.mark.parametrize("function", [torch.add, torch.sub, torch.mul, torch.div])
def test_by_cloud_is_the_loop(sizes, function):
    batch = tiny_batch(num_points=sizes, dtype=torch.float64)
    rows = 1 + torch.rand(3, 3, generator=seeds.generator(0), dtype=torch.float64)
    for values, own in ((batch.pos, rows), (batch.pos[:, :1], rows[:, 1:2]), (batch.pos.T.contiguous().T, rows)):
        expected = torch.cat([function(values[p], row) for p, row in zip(parts(batch), own, strict=True)])
        assert torch.equal(by_cloud(function, values, own, batch), expected)


@sizes
def test_by_cloud_has_right_gradients(sizes):
    batch = tiny_batch(num_points=4 if isinstance(sizes, int) else [1, 2, 3], dtype=torch.float64)
    rows = torch.rand(3, 3, generator=seeds.generator(0), dtype=torch.float64)
    inputs = [t.clone().requires_grad_() for t in (batch.pos, rows)]
    assert torch.autograd.gradcheck(lambda values, rows: by_cloud(torch.mul, values, rows, batch), inputs)


def test_directions_are_uniform_over_the_sphere():
    """Mean 0, second moments 1/3, equal octants: each within six standard deviations of a uniform distribution."""
    n = 4000
    vectors = directions(tiny_batch(n, 1, dtype=torch.float64), seeds.generator(0))
    assert torch.allclose(vectors.norm(dim=1), torch.ones(n, dtype=torch.float64))
    assert vectors.mean(0).abs().max() < 6 * (1 / 3 / n) ** 0.5  # a coordinate is uniform in [-1, 1]
    assert (vectors.T @ vectors / n - torch.eye(3) / 3).abs().max() < 6 * (4 / 45 / n) ** 0.5  # variance of its square
    octant = ((vectors > 0).long() * torch.tensor([4, 2, 1])).sum(1).bincount(minlength=8)
    assert (octant - n / 8).abs().max() < 6 * (n * 7 / 64) ** 0.5


def test_random_points_are_uniform_within_their_clouds():
    batch = tiny_batch(num_points=[1, 5] * 1500)
    points = random_points(batch, seeds.generator(0))
    assert torch.equal(batch.batch[points], torch.arange(3000))
    _, counts = (points - batch.ptr[:-1])[1::2].unique(return_counts=True)
    assert len(counts) == 5 and chisquare(counts.numpy()).pvalue > 0.01
