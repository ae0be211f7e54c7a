from math import sqrt

import pytest
import torch

from geo3d.objectives import BYOL
from geo3d.objectives.byol import byol
from geo3d.seeds import generator


def rows(*key):
    return torch.randn(5, 4, generator=generator("byol", *key), dtype=torch.float64)


def formula(prediction, target):
    """Equation (2) of the paper: 2 - 2 <q, z> / (|q| |z|)."""
    losses = []
    for q, z in zip(prediction.tolist(), target.tolist(), strict=True):
        inner = sum(a * b for a, b in zip(q, z, strict=True))
        losses.append(2 - 2 * inner / sqrt(sum(a * a for a in q) * sum(b * b for b in z)))
    return sum(losses) / len(losses)


def test_formula():
    assert float(byol(rows(0), rows(1))) == pytest.approx(formula(rows(0), rows(1)), rel=1e-12)
    loss, terms = BYOL()([rows(0), rows(1)], [rows(2), rows(3)])
    expected = formula(rows(0), rows(3)) + formula(rows(1), rows(2))  # the paper adds the two directions
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    assert float(terms["positive_similarity"]) == pytest.approx(1 - expected / 4, rel=1e-12)


def test_three_views_take_twice_the_mean_over_ordered_pairs():
    views, targets = [rows("v", i) for i in range(3)], [rows("t", i) for i in range(3)]
    pairs = [formula(views[i], targets[j]) for i in range(3) for j in range(3) if i != j]
    assert float(BYOL()(views, targets)[0]) == pytest.approx(2 * sum(pairs) / 6, rel=1e-12)


def test_gradient():
    q, z = rows(0).requires_grad_(), rows(1).requires_grad_()
    assert torch.autograd.gradcheck(byol, (q, z))
    plain = (2 - 2 * (q * z).sum(1) / (q.norm(dim=1) * z.norm(dim=1))).mean()
    torch.testing.assert_close(torch.autograd.grad(byol(q, z), q), torch.autograd.grad(plain, q))
