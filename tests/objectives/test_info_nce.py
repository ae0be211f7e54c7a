from math import exp, log, sqrt

import pytest
import torch

from geo3d.errors import ConfigError
from geo3d.objectives import InfoNCE
from geo3d.objectives.info_nce import info_nce, positive_similarity
from geo3d.seeds import generator


def views(num, B=5, D=4):
    g = generator("info_nce")
    return [torch.randn(B, D, generator=g, dtype=torch.float64) for _ in range(num)]


def cosine(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True)) / sqrt(sum(a * a for a in x) * sum(b * b for b in y))


def formula(views, temperature):
    """Equation (1) of the paper, for every ordered pair of views of every cloud."""
    rows = [(cloud, row) for view in views for cloud, row in enumerate(view.tolist())]
    losses = []
    for a, (cloud, anchor) in enumerate(rows):
        for p, (other, positive) in enumerate(rows):
            if p == a or other != cloud:
                continue
            candidates = sum(exp(cosine(anchor, c) / temperature) for i, (_, c) in enumerate(rows) if i != a)
            losses.append(-log(exp(cosine(anchor, positive) / temperature) / candidates))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("num", [2, 3, 4])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_formula(num, temperature):
    z = views(num)
    assert float(info_nce(z, temperature)) == pytest.approx(formula(z, temperature), rel=1e-12)
    loss, terms = InfoNCE(temperature)(z)
    assert float(loss) == pytest.approx(formula(z, temperature), rel=1e-12)
    pairs = [cosine(z[v][i], z[w][i]) for i in range(5) for v in range(num) for w in range(num) if v != w]
    assert float(terms["positive_similarity"]) == pytest.approx(float(sum(pairs)) / len(pairs), rel=1e-12)


def test_gradient():
    z = [v.requires_grad_() for v in views(3)]
    assert torch.autograd.gradcheck(lambda *z: info_nce(z, 0.3), z)
    ours = torch.autograd.grad(info_nce(z, 0.3), z)
    unit = torch.cat([v / v.norm(dim=1, keepdim=True) for v in z])
    e = (unit @ unit.T / 0.3).exp()
    plain = -sum(
        (e[a, p] / (e[a].sum() - e[a, a])).log() for a in range(15) for p in range(15) if a != p and a % 5 == p % 5
    )
    for one, other in zip(ours, torch.autograd.grad(plain / 30, z), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_collapsed_embeddings_give_the_logarithm_of_the_candidates():
    z = torch.ones(6, 3)
    assert float(info_nce([z, z], 0.1)) == pytest.approx(log(11), rel=1e-5)


def test_zero_rows_stay_finite():
    z = torch.zeros(4, 3, requires_grad=True)
    loss = info_nce([z, torch.eye(4, 3)])
    loss.backward()
    assert loss.isfinite() and z.grad.isfinite().all()
    assert float(positive_similarity([z, z]).detach()) == 0


def test_temperature_must_be_positive():
    with pytest.raises(ConfigError, match="InfoNCE.temperature: 0 is not a float from 0.0001"):
        InfoNCE(temperature=0)
