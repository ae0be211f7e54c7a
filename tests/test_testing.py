"""Each helper must pass correct code and refuse wrong code."""

import pytest
import torch
from torch import nn

from geo3d import seeds
from geo3d.cloud import Features
from geo3d.geometry.per_cloud import reduce_clouds
from geo3d.invariance import SO2, SO3, AnisotropicScale, Jitter, Permutation, Translation
from geo3d.testing import assert_group, assert_invariant, assert_permutation_invariant, tiny_batch


def mean_norm(batch):
    return reduce_clouds(batch.pos.norm(dim=1), batch, "mean")


class Encoder(nn.Module):
    """Point features and their mean per cloud, with an optional mistake ``wrong``."""

    def __init__(self, wrong=""):
        super().__init__()
        self.wrong = wrong
        self.dropout = nn.Dropout(0.5)

    def forward(self, batch):
        point = self.dropout(batch.pos)
        if self.wrong == "point":
            point = point * torch.arange(len(point))[:, None]
        cloud = reduce_clouds(batch.pos, batch, "mean")
        if self.wrong == "cloud":
            cloud = batch.pos[batch.ptr[:-1]]
        return Features(point, cloud)


@pytest.mark.parametrize("sizes", [32, [3, 20]])
def test_assert_invariant(sizes):
    batch = tiny_batch(num_points=sizes)
    for group in (SO3(), SO2(), Permutation()):
        assert_invariant(mean_norm, group, batch, seeds.generator(0))
    assert_invariant(lambda b: Features(b.pos, mean_norm(b)), SO3(), batch, seeds.generator(0))
    assert_invariant(mean_norm, Jitter(1e-3), batch, seeds.generator(0), rtol=1e-2)
    with pytest.raises(AssertionError, match=r"not invariant to Translation\(max_shift=0.2\)(.|\n)*difference"):
        assert_invariant(mean_norm, Translation(), batch, seeds.generator(0))
    with pytest.raises(AssertionError, match="not invariant to Jitter"):
        assert_invariant(mean_norm, Jitter(1e-3), batch, seeds.generator(0))


@pytest.mark.parametrize("sizes", [32, [3, 20]])
def test_assert_permutation_invariant(sizes):
    batch = tiny_batch(num_points=sizes)
    encoder = Encoder().train()
    assert_permutation_invariant(encoder, batch)
    assert encoder.training and encoder.dropout.training
    assert_permutation_invariant(lambda b: Features(b.pos, mean_norm(b)), batch)
    with pytest.raises(AssertionError, match="cloud features depend on the order"):
        assert_permutation_invariant(Encoder("cloud"), batch)
    with pytest.raises(AssertionError, match="point features do not move"):
        assert_permutation_invariant(Encoder("point"), batch)


class WrongOrder(SO3):
    def compose(self, a, b):
        return b @ a


class WrongInverse(AnisotropicScale):
    def inverse(self, a):
        return -a


class WrongIdentity(Translation):
    def identity(self, batch):
        return torch.full_like(super().identity(batch), 1e-8)


class WrongFromTheLeft(SO3):
    def compose(self, a, b):
        return a if torch.equal(a, torch.eye(3).to(a).expand_as(a)) else super().compose(a, b)


class ForgetsNormals(SO3):
    def act(self, element, batch):
        out = super().act(element, batch)
        out.normal = batch.normal + 1e-6 * out.pos
        return out


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (WrongOrder(), r"WrongOrder\(\): compose\(a, b\) is not b and then a \(normal\)"),
        (WrongInverse(), "the inverse does not undo a"),
        (WrongIdentity(), r"the identity changes the batch \(pos\)"),
        (WrongFromTheLeft(), r"the identity after a is not a \(normal\)"),
        (ForgetsNormals(), r"the identity changes the batch \(normal\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_assert_group_refuses(group, message):
    with pytest.raises(AssertionError, match=message):
        assert_group(group, tiny_batch(dtype=torch.float64), seeds.generator(0))


def test_tiny_batch():
    batch = tiny_batch(num_clouds=2, num_points=50, dtype=torch.float64)
    assert batch.num_points == 50 and batch.y.tolist() == [0, 1] and batch.point_y.unique().tolist() == [0, 1]
    assert torch.equal(batch.pos, tiny_batch(2, 50, dtype=torch.float64).pos)
    assert not torch.equal(batch.pos, tiny_batch(2, 50, seed=1, dtype=torch.float64).pos)
    assert torch.equal(batch.point_y, (batch.pos[:, 2] > 0).long()) and 0.5 < batch.pos.norm(dim=1).max() < 1.5
    ragged = tiny_batch(num_points=[4, 9])
    assert ragged.get("num_points") is None and ragged.ptr.tolist() == [0, 4, 13]
    first = batch.pos[:50].square()  # an ellipsoid: squares of the coordinates in proportion add up to 1
    weights = torch.linalg.lstsq(first, torch.ones(50, 1, dtype=torch.float64)).solution
    assert torch.allclose(first @ weights, torch.ones(50, 1, dtype=torch.float64))
    normal = batch.pos[:50] * weights.T  # the gradient of that equation
    assert torch.allclose(batch.normal[:50], normal / normal.norm(dim=1, keepdim=True))
