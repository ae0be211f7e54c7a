from math import exp, log, sqrt

import pytest
import torch

from geo3d.errors import ConfigError
from geo3d.objectives import PointInfoNCE
from geo3d.objectives.point_info_nce import point_info_nce
from geo3d.seeds import generator


def rows(*key, P=6, D=4):
    return torch.randn(P, D, generator=generator("point info nce", *key), dtype=torch.float64)


def cosine(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True)) / sqrt(sum(a * a for a in x) * sum(b * b for b in y))


def formula(query, key, temperature):
    """The paper's loss in one direction: the positive is among the candidates."""
    query, key, losses = query.tolist(), key.tolist(), []
    for i, q in enumerate(query):
        candidates = [exp(cosine(q, k) / temperature) for k in key]
        losses.append(-log(candidates[i] / sum(candidates)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.07, 0.4])
def test_formula(temperature):
    a, b, c = rows(0), rows(1), rows(2)
    assert float(point_info_nce(a, b, temperature)) == pytest.approx(formula(a, b, temperature), rel=1e-12)
    loss, terms = PointInfoNCE(pairs=6, temperature=temperature)([a, b])
    both = (formula(a, b, temperature) + formula(b, a, temperature)) / 2
    assert float(loss) == pytest.approx(both, rel=1e-12)
    cosines = [cosine(q, k) for q, k in zip(a.tolist(), b.tolist(), strict=True)]
    assert float(terms["positive_similarity"]) == pytest.approx(sum(cosines) / 6, rel=1e-12)
    ordered = [formula(x, y, temperature) for x in (a, b, c) for y in (a, b, c) if x is not y]
    assert float(PointInfoNCE(temperature=temperature)([a, b, c])[0]) == pytest.approx(sum(ordered) / 6, rel=1e-12)


def test_gradient():
    q, k = rows(0).requires_grad_(), rows(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, k: point_info_nce(q, k, 0.3), (q, k))
    normalised = q / q.norm(dim=1, keepdim=True), k / k.norm(dim=1, keepdim=True)
    plain = torch.nn.functional.cross_entropy(normalised[0] @ normalised[1].T / 0.3, torch.arange(6))
    ours = torch.autograd.grad(point_info_nce(q, k, 0.3), (q, k))
    torch.testing.assert_close(ours, torch.autograd.grad(plain, (q, k)))


def test_it_is_on_points():
    assert PointInfoNCE.on == "point" and PointInfoNCE(pairs=7).pairs == 7
    with pytest.raises(ConfigError, match="PointInfoNCE.pairs: 1 is not an int from 2"):
        PointInfoNCE(pairs=1)
