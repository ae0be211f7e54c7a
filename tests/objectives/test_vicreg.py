from math import sqrt

import pytest
import torch

from geo3d.errors import ConfigError
from geo3d.objectives import VICReg
from geo3d.objectives.vicreg import covariance, invariance, variance
from geo3d.seeds import generator


def rows(*key, scale=0.8):
    return scale * torch.randn(5, 4, generator=generator("vicreg", *key), dtype=torch.float64)


def s(a, b):
    return sum((x - y) ** 2 for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)) / (5 * 4)


def centred(z):
    means = [sum(row[j] for row in z) / 5 for j in range(4)]
    return [[row[j] - means[j] for j in range(4)] for row in z]


def v(z, gamma, eps):
    """Equation (1): hinge of the deviation, which has the unbiased variance and eps under its root."""
    z = centred(z)
    return sum(max(0.0, gamma - sqrt(sum(row[j] ** 2 for row in z) / 4 + eps)) for j in range(4)) / 4


def c(z):
    """Equations (3) and (4)."""
    z = centred(z)
    entries = [sum(row[i] * row[j] for row in z) / 4 for i in range(4) for j in range(4) if i != j]
    return sum(entry**2 for entry in entries) / 4


@pytest.mark.parametrize("num", [2, 3])
def test_formula(num):
    views = [rows(i) for i in range(num)]
    lists = [view.tolist() for view in views]
    assert float(invariance(views[0], views[1])) == pytest.approx(s(*lists[:2]), rel=1e-12)
    assert float(variance(views[0], 1.3, 0.01)) == pytest.approx(v(lists[0], 1.3, 0.01), rel=1e-12)
    assert float(covariance(views[0])) == pytest.approx(c(lists[0]), rel=1e-12)
    pairs = [s(lists[i], lists[j]) for i in range(num) for j in range(num) if i != j]
    expected = 25 * sum(pairs) / len(pairs)
    expected += 25 * 2 / num * sum(v(z, 1, 1e-4) for z in lists) + 2 / num * sum(c(z) for z in lists)
    loss, terms = VICReg()(views)
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    assert float(25 * terms["invariance"] + 25 * terms["variance"] + terms["covariance"]) == pytest.approx(expected)


def test_coefficients():
    views = [rows(0), rows(1)]
    assert float(VICReg(0, 0, 2)(views)[0]) == pytest.approx(2 * (c(views[0].tolist()) + c(views[1].tolist())))
    assert float(VICReg(0, 3, 0, gamma=2, eps=0.1)(views)[0]) == pytest.approx(
        3 * (v(views[0].tolist(), 2, 0.1) + v(views[1].tolist(), 2, 0.1))
    )
    with pytest.raises(ConfigError, match="VICReg.covariance: -1 is not a float from 0"):
        VICReg(covariance=-1)


def test_gradient():
    a, b = rows(0).requires_grad_(), rows(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: VICReg()([a, b])[0], (a, b))
    ours = torch.autograd.grad(VICReg()([a, b])[0], (a, b))
    plain = 25 * ((a - b) ** 2).mean()
    for z in (a, b):
        C = torch.cov(z.T)
        plain = plain + 25 * torch.clamp(1 - (C.diagonal() + 1e-4).sqrt(), min=0).mean()
        plain = plain + (C**2).sum() / 4 - (C.diagonal() ** 2).sum() / 4
    torch.testing.assert_close(ours, torch.autograd.grad(plain, (a, b)))


def test_nothing_is_lost_when_dimensions_vary_enough_and_alone():
    z = 4 * torch.linalg.qr(rows("q") - rows("q").mean(0)).Q  # orthonormal columns of mean zero
    assert float(VICReg()([z, z])[0]) == pytest.approx(0, abs=1e-12)
