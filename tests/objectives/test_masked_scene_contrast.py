from math import exp, log, sqrt

import pytest
import torch

from geo3d.errors import ConfigError
from geo3d.objectives import MaskedSceneContrast
from geo3d.objectives.masked_scene_contrast import color_error
from geo3d.objectives.objective import Hidden
from geo3d.seeds import generator

P, D = 9, 5


def rows(*key, shape=(P, D)):
    return torch.randn(shape, generator=generator("masked scene contrast", *key), dtype=torch.float64)


def some_hidden():
    masked = [(rows(name, shape=(P,)) > limit).double() for name, limit in (("one", 0.0), ("other", -0.5))]
    assert 0 < masked[0].sum() < masked[1].sum() < P
    return Hidden(masked, [rows(name, shape=(P, 3)).sigmoid() for name in ("red", "blue")])


def contrast(query, key, temperature):
    def e(q, k):
        dot = sum(a * b for a, b in zip(q, k, strict=True))
        return exp(dot / sqrt(sum(a * a for a in q) * sum(b * b for b in k)) / temperature)

    query, key = query.tolist(), key.tolist()
    return sum(-log(e(q, key[i]) / sum(e(q, k) for k in key)) for i, q in enumerate(query)) / P


def colors(view, rgb, masked, weight, bias):
    total, count = 0.0, 0
    for z, true, hidden in zip(view.tolist(), rgb.tolist(), masked.tolist(), strict=True):
        if hidden:
            painted = [sum(a * b for a, b in zip(w, z, strict=True)) + c for w, c in zip(weight, bias, strict=True)]
            total, count = total + sum((p - t) ** 2 for p, t in zip(painted, true, strict=True)), count + 1
    return total / count


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_formula(weight):
    objective = MaskedSceneContrast(dim=D, temperature=0.3, color=weight).double()
    a, b, given = rows(0), rows(1), some_hidden()
    painter = objective.painter.weight.tolist(), objective.painter.bias.tolist()
    matched = (contrast(a, b, 0.3) + contrast(b, a, 0.3)) / 2
    painted = sum(colors(view, *true, *painter) for view, *true in zip((a, b), given.rgb, given.masked, strict=True))
    loss, terms = objective([a, b], None, given)
    assert loss.item() == pytest.approx(matched + weight * painted / 2, rel=1e-12)
    assert float(terms["color_error"]) == pytest.approx(painted / 2, rel=1e-12)
    assert float(terms["positive_similarity"]) == pytest.approx(float(torch.cosine_similarity(a, b).mean()), rel=1e-12)


def test_coordinates_alone_have_no_colours_to_paint():
    objective = MaskedSceneContrast(dim=D).double()
    a, b, given = rows(0), rows(1), some_hidden()
    loss, terms = objective([a, b], None, given._replace(rgb=None))
    assert list(terms) == ["positive_similarity"]
    assert loss.item() == pytest.approx((contrast(a, b, 0.4) + contrast(b, a, 0.4)) / 2, rel=1e-12)


def test_without_colours_every_weight_has_a_gradient():
    """Otherwise processes would wait for one another for ever."""
    objective = MaskedSceneContrast(dim=D).double()
    objective([rows(0), rows(1)], None, some_hidden()._replace(rgb=None))[0].backward()
    assert all(p.grad is not None and not p.grad.any() for p in objective.painter.parameters())


def test_gradient():
    masked, true = some_hidden().masked[0], rows("true", shape=(P, 3))
    painted = rows("painted", shape=(P, 3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: color_error(x, true, masked), (painted,))
    assert color_error(painted, true, masked * 0).item() == 0.0
    objective = MaskedSceneContrast(dim=D).double()
    objective([rows(0), rows(1)], None, some_hidden())[0].backward()
    assert objective.painter.weight.grad.any()


def test_what_is_hidden_is_needed():
    with pytest.raises(ConfigError, match="MaskedSceneContrast needs hidden; give just that"):
        MaskedSceneContrast(dim=D)([rows(0), rows(1)])
    with pytest.raises(ConfigError, match=r"rate: 0\.6 is not a float from 0 to 0\.5"):
        MaskedSceneContrast(rate=0.6)
