from math import exp, log, sqrt

import pytest
import torch

from geo3d.errors import ConfigError
from geo3d.objectives import MoCo
from geo3d.objectives.moco import moco
from geo3d.seeds import generator


def rows(*key, B=5, D=4):
    return torch.randn(B, D, generator=generator("moco", *key), dtype=torch.float64)


def unit(row):
    norm = sqrt(sum(a * a for a in row))
    return [a / norm for a in row]


def formula(query, key, queue, temperature):
    """Equation (1) of the paper; ``queue`` is a list of unit rows."""

    def e(x, y):
        return exp(sum(a * b for a, b in zip(x, y, strict=True)) / temperature)

    losses = []
    for q, k in zip(query.tolist(), key.tolist(), strict=True):
        q, k = unit(q), unit(k)
        losses.append(-log(e(q, k) / (e(q, k) + sum(e(q, other) for other in queue))))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("K", [0, 1, 7])
def test_formula(K):
    query, key, queue = rows("q"), rows("k"), torch.nn.functional.normalize(rows("queue", B=K))
    expected = formula(query, key, queue.tolist(), 0.2)
    assert float(moco(query, key, queue, 0.2)) == pytest.approx(expected, rel=1e-12, abs=1e-15)
    longer = torch.cat([queue, torch.ones(3, 4, dtype=torch.float64)])
    filled = torch.arange(K + 3) < K
    assert float(moco(query, key, longer, 0.2, filled)) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_gradient():
    query, key, queue = rows("q").requires_grad_(), rows("k").requires_grad_(), rows("queue", B=6)
    filled = torch.tensor([True, True, False, True, False, False])
    assert torch.autograd.gradcheck(lambda q, k: moco(q, k, queue, 0.3, filled), (query, key))
    (ours,) = torch.autograd.grad(moco(query, key, queue, 0.3, filled), query)
    q, k = (x / x.norm(dim=1, keepdim=True) for x in (query, key))
    own, others = ((q * k).sum(1) / 0.3).exp(), (q @ queue[filled].T / 0.3).exp().sum(1)
    torch.testing.assert_close(ours, torch.autograd.grad(-(own / (own + others)).log().mean(), query)[0])


@pytest.mark.parametrize("queue_size", [3, 8, 23, 64])
@pytest.mark.parametrize("num_views", [2, 3])
def test_queue_against_a_list(queue_size, num_views):
    """Sizes below a batch, not a multiple of it, and never filled."""
    objective, kept = MoCo(dim=4, queue_size=queue_size, temperature=0.2).double(), []
    for step in range(5):
        views = [rows(step, "view", i) for i in range(num_views)]
        targets = [rows(step, "target", i) for i in range(num_views)]
        loss, terms = objective(views, targets)
        pairs = [(i, j) for i in range(num_views) for j in range(num_views) if i != j]
        expected = sum(formula(views[i], targets[j], kept, 0.2) for i, j in pairs) / len(pairs)
        assert float(loss) == pytest.approx(expected, rel=1e-12, abs=1e-14)
        assert float(terms["queue_filled"]) == pytest.approx(len(kept) / queue_size)
        kept = (kept + [unit(row) for target in targets for row in target.tolist()])[-queue_size:]
        held = sorted(objective.queue[objective.filled].tolist())
        torch.testing.assert_close(torch.tensor(held), torch.tensor(sorted(kept)))


def test_first_loss_is_zero_and_has_no_gradient():
    view = rows("v").requires_grad_()
    loss, _ = MoCo(dim=4, queue_size=8).double()([view, view], [rows("a"), rows("b")])
    loss.backward()
    assert float(loss.detach()) == 0 and not view.grad.any()


def test_backward_after_the_queue_has_moved_on():
    objective = MoCo(dim=4, queue_size=10).double()
    objective([rows(0), rows(1)], [rows(2), rows(3)])
    before, view = objective.queue.clone(), rows(4).requires_grad_()
    loss, _ = objective([view, rows(5)], [rows(6), rows(7)])
    (grad,) = torch.autograd.grad(loss, view)
    assert not torch.equal(before, objective.queue)
    (expected,) = torch.autograd.grad(moco(view, rows(7), before) / 2, view)
    torch.testing.assert_close(grad, expected)


def test_queue_stays_in_evaluation_and_moves_in_training():
    objective = MoCo(dim=4, queue_size=8).double().eval()
    objective([rows(0), rows(1)], [rows(2), rows(3)])
    assert int(objective.count) == 0 and not objective.queue.any()
    objective.train()([rows(0), rows(1)], [rows(2), rows(3)])
    assert int(objective.count) == 8 and int(objective.pointer) == 0


def test_stored_state_continues_exactly():
    def step(objective, i):
        return objective([rows(i, 0), rows(i, 1)], [rows(i, 2), rows(i, 3)])[0]

    through, resumed = (MoCo(dim=4, queue_size=23).double() for _ in range(2))
    for i in range(3):
        step(through, i)
    resumed.load_state_dict(through.state_dict())
    for i in range(3, 6):
        assert torch.equal(step(through, i), step(resumed, i))
    assert torch.equal(through.queue, resumed.queue) and torch.equal(through.pointer, resumed.pointer)


def test_refuses():
    with pytest.raises(ConfigError, match="dim=128; found embeddings of size 4"):
        MoCo()([rows(0), rows(1)], [rows(2), rows(3)])
    with pytest.raises(ConfigError, match="MoCo.queue_size: 0 is not an int from 1"):
        MoCo(queue_size=0)
