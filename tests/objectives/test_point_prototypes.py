from math import exp, log, sqrt

import pytest
import torch

from geo3d.objectives import PointPrototypes
from geo3d.objectives.point_prototypes import assignment_loss, sinkhorn
from geo3d.seeds import generator

P, D, K = 7, 5, 4


def rows(*key, shape=(P, D)):
    return torch.randn(shape, generator=generator("point prototypes", *key), dtype=torch.float64)


def plain_sinkhorn(logits, iterations):
    q = [[exp(x) for x in row] for row in logits.tolist()]
    for _ in range(iterations):
        total = [sum(row[k] for row in q) for k in range(K)]
        q = [[x / total[k] / K for k, x in enumerate(row)] for row in q]
        q = [[x / sum(row) / P for x in row] for row in q]
    return [[x * P for x in row] for row in q]


def unit(x):
    return [[a / sqrt(sum(b * b for b in row)) for a in row] for row in x.tolist()]


def formula(student, teacher, weight, iterations, temperature, teacher_temperature):
    cosines = [
        [[sum(a * b for a, b in zip(z, w, strict=True)) for w in unit(weight)] for z in unit(x)]
        for x in (student, teacher)
    ]
    assigned = plain_sinkhorn(torch.tensor(cosines[1], dtype=torch.float64) / teacher_temperature, iterations)
    losses = []
    for cosine, target in zip(cosines[0], assigned, strict=True):
        total = sum(exp(c / temperature) for c in cosine)
        losses.append(-sum(t * log(exp(c / temperature) / total) for t, c in zip(target, cosine, strict=True)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("iterations", [1, 3])
def test_formula(iterations):
    objective = PointPrototypes(dim=D, prototypes=K, iterations=iterations, temperature=0.2, teacher_temperature=0.1)
    objective.double()
    a, b, s, t = (rows(i) for i in range(4))
    options = (objective.weight.detach(), iterations, 0.2, 0.1)
    expected = (formula(a, t, *options) + formula(b, s, *options)) / 2
    loss, terms = objective([a, b], [s, t])
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    assert 1 <= float(terms["prototypes_used"]) <= K


def test_sinkhorn_is_the_plain_one_and_balances():
    logits = rows("logits", shape=(P, K)) * 3
    for iterations in (1, 2, 5):
        expected = torch.tensor(plain_sinkhorn(logits, iterations), dtype=torch.float64)
        torch.testing.assert_close(sinkhorn(logits, iterations), expected, rtol=1e-10, atol=1e-12)
    balanced = sinkhorn(logits, 500)
    torch.testing.assert_close(balanced.sum(0), torch.full((K,), P / K, dtype=torch.float64), rtol=1e-6, atol=0)
    torch.testing.assert_close(balanced.sum(1), torch.ones(P, dtype=torch.float64), rtol=1e-6, atol=0)
    extreme = sinkhorn(logits.float() * 1e4, 3)
    assert bool(extreme.isfinite().all())
    torch.testing.assert_close(extreme.sum(1), torch.ones(P), rtol=1e-5, atol=0)


def test_gradient():
    logits, assigned = rows("g", shape=(P, K)).requires_grad_(), sinkhorn(rows("h", shape=(P, K)))
    assert torch.autograd.gradcheck(lambda x: assignment_loss(x, assigned, 0.3), (logits,))
    objective = PointPrototypes(dim=D, prototypes=K).double()
    objective([rows(0), rows(1)], [rows(2), rows(3)])[0].backward()
    assert objective.weight.grad.any()


def test_two_processes_balance_the_joined_rows(monkeypatch):
    """Each half sees the sums of both: its assignments are its rows of the whole's."""
    logits = rows("logits", shape=(8, K)) * 2
    whole, halves = sinkhorn(logits, 3), [logits[:4].clone(), logits[4:].clone()]
    sums = [[], []]
    for rank in (0, 1):  # what each half would send, computed along with the other's
        step = iter(range(3))

        def both(x, rank=rank, step=step):
            at, other = next(step), 1 - rank
            sent = _sent(logits[4 * other : 4 * other + 4], logits[4 * rank : 4 * rank + 4], at)
            return torch.cat([x, sent[None]])

        monkeypatch.setattr("geo3d.objectives.point_prototypes.gather", both)
        sums[rank] = sinkhorn(halves[rank], 3)
    torch.testing.assert_close(torch.cat(sums), whole, rtol=1e-10, atol=1e-12)


def _sent(own, other, step):
    """The logarithms of the sums over ``own`` rows before the given step, by the plain iterations on all rows."""
    q = torch.cat([own, other]).exp()
    for _ in range(step):
        q = q / q.sum(0) * len(q) / K
        q = q / q.sum(1, keepdim=True)
    return q[:4].sum(0).log()
