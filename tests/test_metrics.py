from collections import Counter
from math import exp, log, sqrt

import pytest
import torch

from geo3d import metrics
from geo3d.seeds import generator


def rows(*key, M=30, D=5, dtype=torch.float64):
    return torch.randn(M, D, generator=generator("metrics", *key), dtype=dtype)


def test_accuracy_of_labels_and_scores():
    scores, target = rows("scores", D=4), torch.arange(30) % 4
    right = sum(
        int(max(range(4), key=row.__getitem__)) == int(t) for row, t in zip(scores.tolist(), target, strict=True)
    )
    assert float(metrics.accuracy(scores, target)) == pytest.approx(right / 30)
    assert metrics.accuracy(scores.argmax(1), target) == metrics.accuracy(scores, target)


def test_class_accuracy_leaves_out_absent_classes():
    target = torch.tensor([0] * 8 + [1] * 2 + [3])
    pred = torch.tensor([0] * 6 + [1, 2] + [1, 0] + [3])
    expected = (6 / 8 + 1 / 2 + 1) / 3
    assert float(metrics.class_accuracy(pred, target, 5)) == pytest.approx(expected)
    assert float(metrics.class_accuracy(torch.eye(5)[pred], target, 5)) == pytest.approx(expected)


def test_embedding_std():
    z = rows("std")
    unit = [[a / sqrt(sum(b * b for b in row)) for a in row] for row in z.tolist()]
    columns = list(zip(*unit, strict=True))
    deviations = [sqrt(sum((a - sum(c) / 30) ** 2 for a in c) / 30) for c in columns]
    assert float(metrics.embedding_std(z)) == pytest.approx(sqrt(5) * sum(deviations) / 5)
    assert float(metrics.embedding_std(rows("many", M=20000, D=8))) == pytest.approx(1, abs=0.01)
    assert float(metrics.embedding_std(torch.cat([torch.eye(4), -torch.eye(4)]))) == pytest.approx(1)
    assert float(metrics.embedding_std(torch.full((6, 4), 3.0))) == pytest.approx(0, abs=1e-6)


def test_effective_rank():
    z = rows("rank")
    values = torch.linalg.eigvalsh(z.T @ z).sqrt().tolist()
    shares = [value / sum(values) for value in values]
    assert float(metrics.effective_rank(z)) == pytest.approx(exp(-sum(p * log(p) for p in shares)))
    assert float(metrics.effective_rank(7 * torch.eye(6, 4))) == pytest.approx(4)
    assert float(metrics.effective_rank(torch.ones(6, 4))) == pytest.approx(1, abs=1e-4)
    assert float(metrics.effective_rank(torch.zeros(6, 4))) == 1


def test_alignment_and_uniformity():
    x, y = rows("x"), rows("y")
    ux, uy = (z / z.norm(dim=1, keepdim=True) for z in (x, y))
    assert float(metrics.alignment(x, y)) == pytest.approx(float(((ux - uy) ** 2).sum() / 30))
    assert float(metrics.alignment(x, y, alpha=1)) == pytest.approx(float((ux - uy).norm(dim=1).mean()))
    pairs = [float(((ux[i] - ux[j]) ** 2).sum()) for i in range(30) for j in range(i)]
    assert float(metrics.uniformity(x)) == pytest.approx(log(sum(exp(-2 * d) for d in pairs) / len(pairs)))
    assert float(metrics.uniformity(x, t=1)) == pytest.approx(log(sum(exp(-d) for d in pairs) / len(pairs)))
    assert float(metrics.uniformity(torch.ones(4, 3))) == pytest.approx(0, abs=1e-6)


def test_narrow_input_is_widened():
    z = rows("bf16").to(torch.bfloat16)
    for metric in (metrics.embedding_std, metrics.effective_rank, metrics.uniformity):
        assert metric(z) == metric(z.float()) and metric(z).dtype == torch.float32


@pytest.mark.parametrize("temperature", [None, 0.07])
@pytest.mark.parametrize("k", [1, 4, 100])
def test_knn_accuracy_against_loops(k, temperature):
    bank, query = rows("bank", M=40), rows("query", M=23)
    bank_labels, query_labels = 3 + 2 * (torch.arange(40) % 4), 3 + 2 * (torch.arange(23) % 5)  # 11 is not in the bank
    right = 0
    for row, label in zip(query, query_labels.tolist(), strict=True):
        cosine = [float(row @ b / (row.norm() * b.norm())) for b in bank]
        nearest = sorted(range(40), key=lambda i: -cosine[i])[:k]
        votes = Counter()
        for i in nearest:
            votes[int(bank_labels[i])] += 1 if temperature is None else exp(cosine[i] / temperature)
        right += min(votes, key=lambda c: (-votes[c], c)) == label
    accuracy = metrics.knn_accuracy(bank, bank_labels, query, query_labels, k, temperature)
    assert float(accuracy) == pytest.approx(right / 23)


def test_knn_accuracy_of_many_queries_and_small_temperatures():
    bank, labels = torch.eye(3), torch.arange(3)
    query_labels = torch.arange(2500) % 3  # more than are compared at a time
    query = bank[query_labels] + 0.1
    assert float(metrics.knn_accuracy(bank, labels, query, query_labels, k=1)) == 1
    assert float(metrics.knn_accuracy(bank, labels, query, query_labels, k=3, temperature=1e-4)) == 1


def test_ious_are_those_of_torchmetrics():
    from torchmetrics.classification import MulticlassJaccardIndex

    draw = torch.Generator().manual_seed(0)
    pred, target = (torch.randint(0, 4, (500,), generator=draw) for _ in range(2))
    target[:50] = -1
    counts = metrics.confusion(pred, target, 5)
    assert int(counts.sum()) == 450
    for average, found in (("none", metrics.class_iou(counts)[:4]), ("macro", metrics.mean_iou(counts))):
        theirs = MulticlassJaccardIndex(num_classes=4, average=average, ignore_index=-1)(pred, target)
        torch.testing.assert_close(found, theirs)
    assert bool(metrics.class_iou(counts)[4].isnan())


def test_a_part_that_is_in_neither_counts_as_found():
    pred, target = torch.tensor([0, 0, 1, 3]), torch.tensor([0, 1, 1, 1])
    assert float(metrics.part_iou(pred, target, (0, 1, 2))) == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
