from math import sqrt

import pytest
import torch

from geo3d.errors import ConfigError
from geo3d.objectives import BarlowTwins
from geo3d.objectives.barlow_twins import barlow_twins, cross_correlation, off_diagonal
from geo3d.seeds import generator


def rows(*key):
    return 3 + torch.randn(5, 4, generator=generator("barlow", *key), dtype=torch.float64)


def standardised(z, eps):
    columns = []
    for column in zip(*z, strict=True):
        mean = sum(column) / 5
        std = sqrt(sum((x - mean) ** 2 for x in column) / 5 + eps)
        columns.append([(x - mean) / std for x in column])
    return columns


def formula(a, b, lambd, eps):
    """Equations (1) and (2) of the paper."""
    a, b, total = standardised(a.tolist(), eps), standardised(b.tolist(), eps), 0.0
    for i in range(4):
        for j in range(4):
            C = sum(x * y for x, y in zip(a[i], b[j], strict=True)) / 5
            total += (1 - C) ** 2 if i == j else lambd * C**2
    return total


@pytest.mark.parametrize(("lambd", "eps"), [(0.0051, 1e-5), (0.5, 0.1)])
def test_formula(lambd, eps):
    a, b, c = rows(0), rows(1), rows(2)
    assert float(barlow_twins(a, b, lambd, eps)) == pytest.approx(formula(a, b, lambd, eps), rel=1e-12)
    loss, terms = BarlowTwins(lambd, eps)([a, b, c])
    expected = (formula(a, b, lambd, eps) + formula(a, c, lambd, eps) + formula(b, c, lambd, eps)) / 3
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    assert float(terms["invariance"] + lambd * terms["redundancy"]) == pytest.approx(expected, rel=1e-12)


def test_gradient():
    a, b = rows(0).requires_grad_(), rows(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: barlow_twins(a, b, 0.1), (a, b))
    ours = torch.autograd.grad(barlow_twins(a, b, 0.1), (a, b))
    na, nb = (torch.nn.functional.batch_norm(z, None, None, training=True, eps=1e-5) for z in (a, b))
    C = torch.einsum("bi,bj->ij", na, nb) / 5
    weight = torch.full_like(C, 0.1).fill_diagonal_(1)
    plain = (weight * (C - torch.eye(4)) ** 2).sum()
    torch.testing.assert_close(ours, torch.autograd.grad(plain, (a, b)))


def test_constant_dimensions_correlate_with_nothing():
    a = rows(0)
    a[:, 2] = 7
    a.requires_grad_()
    C = cross_correlation(a, a)
    assert not C[2].any() and not C[:, 2].any()
    barlow_twins(a, a).backward()
    assert a.grad.isfinite().all()


def test_off_diagonal():
    assert off_diagonal(torch.arange(9.0).view(3, 3)).tolist() == [[0, 1, 2], [3, 0, 5], [6, 7, 0]]


def test_refuses():
    with pytest.raises(ConfigError, match="BarlowTwins.lambd: -1 is not a float above 0"):
        BarlowTwins(lambd=-1)
