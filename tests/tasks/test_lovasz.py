"""The Lovász-softmax loss against the definition of the Lovász extension (arXiv 1705.08790)."""

import itertools

import pytest
import torch

from geo3d.seeds import generator
from geo3d.tasks.lovasz import lovasz_softmax


def jaccard_loss(wrong: set[int], true: set[int], count: int) -> float:
    """1 - IoU of the truth and the truth with the points in ``wrong`` flipped."""
    predicted = {i for i in range(count) if (i in true) != (i in wrong)}
    union = true | predicted
    return 1 - len(true & predicted) / len(union) if union else 0.0


def extension(errors: list[float], true: set[int]) -> float:
    """Sum over the sorted errors of error times the growth of the loss."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    total, before = 0.0, 0.0
    for place, i in enumerate(order):
        now = jaccard_loss(set(order[: place + 1]), true, len(errors))
        total, before = total + errors[i] * (now - before), now
    return total


def test_formula():
    draw = generator("lovasz")
    probabilities = torch.randn(9, 3, generator=draw, dtype=torch.float64).softmax(1)
    labels = torch.tensor([0, 0, 1, 1, 1, 0, 1, 0, 0])  # class 2 does not occur
    expected = []
    for c in (0, 1):
        true = {i for i in range(9) if labels[i] == c}
        errors = [abs((i in true) - float(probabilities[i, c])) for i in range(9)]
        expected.append(extension(errors, true))
    assert float(lovasz_softmax(probabilities, labels)) == pytest.approx(sum(expected) / 2, abs=1e-12)


def test_at_whole_predictions_it_is_one_minus_the_iou():
    labels = torch.tensor([0, 1, 0, 1])
    for predicted in itertools.product((0, 1), repeat=4):
        chosen = torch.tensor(predicted)
        ious = [float(((chosen == c) & (labels == c)).sum() / ((chosen == c) | (labels == c)).sum()) for c in (0, 1)]
        assert float(lovasz_softmax(torch.eye(2)[chosen], labels)) == pytest.approx(1 - sum(ious) / 2, abs=1e-6)


def test_its_gradient_is_that_of_differences():
    draw = generator("lovasz gradient")
    logits = torch.randn(7, 3, generator=draw, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    assert torch.autograd.gradcheck(lambda x: lovasz_softmax(x.softmax(1), labels), logits)
