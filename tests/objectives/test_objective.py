"""What holds for every objective in ``objectives.__all__``."""

from inspect import signature
from pathlib import Path

import pytest
import torch

from geo3d import objectives
from geo3d.errors import ConfigError
from geo3d.objectives.objective import Hidden, Motions, Objective, Places, check, found_in
from geo3d.seeds import generator

B, D = 16, 6
every = pytest.mark.parametrize("name", objectives.__all__)
COMPARING = [name for name in objectives.__all__ if getattr(objectives, name).needs != "clouds"]
comparing = pytest.mark.parametrize("name", COMPARING)
"""A reconstruction compares each view with its cloud, not views with one another."""


def rows(*key, dtype=torch.float32):
    return torch.randn(B, D, generator=generator("objective", *key)).to(dtype)


def build(name):
    """The objective, with a queue that has been filled if it has one."""
    cls = getattr(objectives, name)
    if name != "MoCo":
        return cls(dim=D) if "dim" in signature(cls).parameters else cls()
    objective = cls(dim=D, queue_size=4 * B)
    for step in range(2):
        call(objective, [rows("warm", step, 0), rows("warm", step, 1)])
    return objective.eval()


def call(objective, views, targets=None, order=slice(None)):
    """Loss and terms; the views themselves stand for the teacher's embeddings if none are given."""
    given = None
    if objective.needs == "places":
        given = Places(*(part[order] for part in some_places(views)))
    elif objective.needs == "hidden":  # the same of every view
        masked, rgb = (torch.arange(B) % 2).float()[order], rows("rgb")[order, :3]
        given = Hidden([masked[: len(views[0])]] * len(views), [rgb[: len(views[0])]] * len(views))
    elif objective.needs == "motions":  # every view moved as all the others
        moved = torch.eye(4).repeat(len(views[0]), 1, 1)
        moved[:, :3, 3] = 0.1
        given = Motions([moved] * len(views), None)
    elif objective.needs == "clouds":
        given = rows(0)[: len(views[0]), None, :3][order].expand(-1, objective.points, 3)
    return objective(views, (targets or [v.detach() for v in views]) if objective.teacher else None, given)


def some_places(views):
    """Points along a slope, in one cloud: those before a point are below it, the others above."""
    return Places(torch.arange(len(views[0]))[:, None] * torch.ones(3), torch.zeros(len(views[0])))


@every
def test_has_a_formula_test(name):
    cls = getattr(objectives, name)
    mirrored = Path(__file__).with_name(f"test_{cls.__module__.rsplit('.', 1)[1]}.py")
    assert mirrored.exists() and "def test_formula(" in mirrored.read_text() and name in mirrored.read_text()


@every
def test_declares_what_it_needs(name):
    cls = getattr(objectives, name)
    assert issubclass(cls, Objective) and type(cls.teacher) is bool and type(cls.predictor) is bool
    assert cls.invariant_to == "views" and cls.equivariant_to == ()
    assert cls.on in ("cloud", "point") and (cls.on == "cloud" or cls().pairs >= 2)


@every
def test_finite_and_deterministic(name):
    first, second = (call(build(name), [rows(0), rows(1), rows(2)]) for _ in range(2))
    assert first[0].shape == () and first[0].isfinite() and torch.equal(first[0], second[0])
    assert first[1] and all(term.isfinite() and term.shape == () for term in first[1].values())


@every
def test_symmetric_in_the_views(name):
    a, b, s, t = (rows(i, dtype=torch.float64) for i in range(4))
    objective = build(name).double()
    torch.testing.assert_close(call(objective, [a, b], [s, t])[0], call(objective, [b, a], [t, s])[0])


@every
def test_does_not_look_at_the_order_of_clouds(name):
    a, b, s, t = (rows(i, dtype=torch.float64) for i in range(4))
    objective, order = build(name).double(), torch.randperm(B, generator=generator("order"))
    one = call(objective, [a, b], [s, t])
    other = call(objective, [a[order], b[order]], [s[order], t[order]], order)
    torch.testing.assert_close(one[0], other[0])


@comparing
def test_equal_views_are_better_than_unrelated_ones(name):
    objective = build(name)
    assert call(objective, [rows(0), rows(0)])[0] < call(objective, [rows(0), rows(1)])[0]


@comparing
def test_collapse_is_penalised_unless_a_predictor_guards_against_it(name):
    objective, same = build(name), rows(0)[:1].expand(B, D)
    if name == "MoCo":
        objective.enqueue(same.repeat(4, 1))
    collapsed, healthy = call(objective, [same, same])[0], call(build(name), [rows(0), rows(0)])[0]
    if objective.predictor:
        assert float(collapsed) == pytest.approx(0, abs=1e-6)
    else:
        assert collapsed > healthy + 0.1


@every
def test_gradient_reaches_views_and_not_targets(name):
    objective = build(name)
    views, targets = ([rows(kind, i).requires_grad_() for i in range(2)] for kind in ("view", "target"))
    loss, terms = call(objective, views, targets)
    loss.backward()
    assert all(v.grad.isfinite().all() and v.grad.any() for v in views)
    assert all(t.grad is None for t in targets)
    assert not any(term.requires_grad for term in terms.values())


@every
def test_narrow_input_is_computed_in_float32(name):
    views, targets = ([rows(kind, i, dtype=torch.bfloat16) for i in range(2)] for kind in ("view", "target"))
    expected = call(build(name), [v.float() for v in views], [t.float() for t in targets])[0]
    views = [v.requires_grad_() for v in views]
    objective = build(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = call(objective, views, targets)
        wide, _ = call(objective, [v.float() for v in views], [t.float() for t in targets])
    assert loss.dtype == torch.float32 and torch.equal(loss, expected) and torch.equal(wide, expected)
    loss.backward()
    assert views[0].grad.dtype == torch.bfloat16 and views[0].grad.any()


@every
def test_refuses_what_does_not_fit(name):
    objective, a, b = build(name), rows(0), rows(1)
    for views, message in [
        ([a], "two or more views"),
        (a, "two or more views"),
        ([a, b[:5]], r"one shape; found \[\(16, 6\), \(5, 6\)\]"),
        ([a, b[:, :3]], "one shape"),
        ([a[None], b[None]], "one shape"),
        ([a.long(), b.long()], "floating-point"),
        ([a[:1], b[:1]], "at least 2 clouds; found 1"),
    ]:
        with pytest.raises(ConfigError, match=message):
            call(objective, views, [a, b])
    if objective.teacher:
        with pytest.raises(ConfigError, match=f"{name} needs targets"):
            objective([a, b])
        with pytest.raises(ConfigError, match="targets must have the shapes of the views"):
            objective([a, b], [a])
        with pytest.raises(ConfigError, match=r"found \[\(16, 6\), \(16, 3\)\]"):
            objective([a, b], [a, b[:, :3]])
    else:
        with pytest.raises(ConfigError, match="has no teacher"):
            objective([a, b], [a, b])


def test_two_clouds_are_enough_whichever_processes_hold_them(monkeypatch):
    one = [torch.ones(1, D), torch.ones(1, D)]
    with pytest.raises(ConfigError, match="at least 2 clouds; found 1"):
        check("InfoNCE", one)
    check("InfoNCE", [torch.ones(2, D)] * 2)
    monkeypatch.setattr("geo3d.objectives.objective.world_size", lambda: 2)
    check("InfoNCE", one)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ([(4, 8)] * 3, "3 of (4, 8)"),
        ([(4, 8)] * 2, "[(4, 8), (4, 8)]"),
        ([(4, 8), (4, 8), (4, 6)], "[(4, 8), (4, 8), (4, 6)]"),
    ],
)
def test_shapes_are_said_once_if_they_are_the_same(shapes, said):
    assert found_in([torch.zeros(shape) for shape in shapes]) == said


@pytest.mark.parametrize(
    "result, found",
    [
        (torch.ones(()), "Tensor"),
        ((torch.ones(()), torch.ones(())), r"\(Tensor, Tensor\)"),
        ((torch.ones(()), {"term": 1.0}), r"\(Tensor, \{term: float\}\)"),
        ((1.0, {}), r"\(float, \{\}\)"),
    ],
)
def test_a_loss_of_another_form_is_one_line(result, found):
    mine = type("Mine", (Objective,), {"loss": lambda self, views, targets: result})
    with pytest.raises(ConfigError, match=rf"Mine\.loss: expected to return .*; found {found}"):
        mine()([torch.zeros(4, 3)] * 2)
    with pytest.raises(ConfigError, match=r"Empty has no loss\(views, targets\)"):
        type("Empty", (Objective,), {})()([torch.zeros(4, 3)] * 2)
