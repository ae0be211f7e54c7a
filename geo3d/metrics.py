"""Metrics of predictions and embeddings; each returns a tensor ()."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def accuracy(pred: Tensor, target: Tensor) -> Tensor:
    """() fraction of correct rows.

    Args:
        pred: (B,) labels, or (B, K) logits, of which the highest decides.
        target: (B,) true labels.

    Example:
        >>> float(accuracy(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])))
        0.75
    """
    return (labels(pred) == target).float().mean()


def class_accuracy(pred: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """() accuracy within each class, averaged over the classes that occur in ``target``.

    Args:
        pred: (B,) labels, or (B, K) logits, of which the highest decides.
        target: (B,) true labels in 0 .. num_classes - 1.
        num_classes: K.

    Example:
        >>> round(float(class_accuracy(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 2]), 3)), 3)
        0.5
    """
    total = torch.bincount(target, minlength=num_classes)
    right = torch.bincount(target[labels(pred) == target], minlength=num_classes)
    return (right.float() / total.clamp(min=1)).sum() / (total > 0).sum()


def confusion(pred: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """(num_classes, num_classes) how many points of each true class (row) were given each class (column).

    Args:
        pred: (M,) labels from 0 to num_classes - 1.
        target: (M,) true labels; points with a label outside of this range are left out.
        num_classes: Number of classes.

    Example:
        >>> confusion(torch.tensor([0, 1, 1]), torch.tensor([0, 1, -1]), 2).tolist()
        [[1, 0], [0, 1]]
    """
    known = (target >= 0) & (target < num_classes)
    pairs = target[known] * num_classes + pred[known]
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def class_iou(counts: Tensor) -> Tensor:
    """(C,) intersection over union of each class, from :func:`confusion`; NaN where a class is in neither.

    Example:
        >>> class_iou(torch.tensor([[2, 1], [0, 3]])).tolist()
        [0.6666666865348816, 0.75]
    """
    both = counts.diagonal().float()
    return both / (counts.sum(0) + counts.sum(1) - counts.diagonal())


def mean_iou(counts: Tensor) -> Tensor:
    """() mean of :func:`class_iou` over the classes that occur in the truth or in the predictions."""
    return class_iou(counts).nanmean()


def part_iou(pred: Tensor, target: Tensor, parts: Sequence[int]) -> Tensor:
    """() IoU of one object: the mean over the parts that its category may have; 1 for a part that is in neither.

    Args:
        pred: (N,) labels.
        target: (N,) true labels.
        parts: The labels of the parts of the object's category.

    Example:
        >>> round(float(part_iou(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), (0, 1, 2))), 4)
        0.6667
    """
    ious = []
    for part in parts:
        own, true = pred == part, target == part
        union = (own | true).sum()
        ious.append((own & true).sum() / union if union else torch.ones(()))
    return torch.stack(ious).mean()


def labels(pred: Tensor) -> Tensor:
    """(B,) labels, from labels (B,) or as the argmax of logits (B, K)."""
    return pred.argmax(-1) if pred.dim() == 2 else pred


def embedding_std(z: Tensor) -> Tensor:
    """() std of each dimension over the unit rows of z (B, D), averaged over dimensions, times sqrt(D).

    1 if embeddings are spread evenly over the sphere, 0 if all are the same.

    Example:
        >>> float(embedding_std(torch.ones(5, 3)))
        0.0
    """
    return F.normalize(wide(z), dim=-1).std(0, unbiased=False).mean() * math.sqrt(z.shape[1])


def effective_rank(z: Tensor) -> Tensor:
    """() RankMe of z (B, D): exp of the entropy of its singular values divided by their sum (arXiv 2210.02885).

    It lies between 1 (all rows on one line through the origin) and min(B, D).

    Example:
        >>> round(float(effective_rank(torch.eye(4))), 3)
        4.0
    """
    values = torch.linalg.svdvals(wide(z))
    fractions = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return torch.special.entr(fractions).sum().exp()


def alignment(x: Tensor, y: Tensor, alpha: float = 2.0) -> Tensor:
    """() mean of distance^alpha between the unit rows of two views (B, D) (arXiv 2005.10242).

    Example:
        >>> float(alignment(torch.eye(3), torch.eye(3)))
        0.0
    """
    return (F.normalize(wide(x), dim=-1) - F.normalize(wide(y), dim=-1)).norm(dim=-1).pow(alpha).mean()


def uniformity(x: Tensor, t: float = 2.0) -> Tensor:
    """() log of the mean of exp(-t distance^2) over pairs of unit rows of x (B, D) (arXiv 2005.10242).

    0 if all unit rows are the same; lower if they cover the sphere more evenly.

    Example:
        >>> round(float(uniformity(torch.eye(3))), 3)  # distances sqrt(2)
        -4.0
    """
    distances = torch.pdist(F.normalize(wide(x), dim=-1))
    return (-t * distances.square()).logsumexp(0) - math.log(len(distances))


def knn_accuracy(
    bank: Tensor,
    bank_labels: Tensor,
    query: Tensor,
    query_labels: Tensor,
    k: int = 20,
    temperature: float | None = None,
) -> Tensor:
    """() fraction of queries that get their true label from a vote of their k nearest bank rows, by cosine.

    Args:
        bank: (M, D) features that vote.
        bank_labels: (M,) their labels.
        query: (Q, D) features to classify.
        query_labels: (Q,) their true labels.
        k: Number of votes; if the bank has fewer rows, all of them vote.
        temperature: A vote has the weight exp(cosine / temperature) (arXiv 1805.01978); if None, all votes weigh the
            same. Ties go to the lower label.

    Example:
        >>> bank, query = torch.eye(2), torch.tensor([[2.0, 1.0], [0.0, 3.0]])
        >>> float(knn_accuracy(bank, torch.tensor([0, 1]), query, torch.tensor([0, 1]), k=1))
        1.0
    """
    bank, query = F.normalize(wide(bank), dim=-1), F.normalize(wide(query), dim=-1)
    classes, bank_labels = torch.unique(bank_labels, return_inverse=True)
    predicted = []
    for rows in query.split(1024):  # bounds the memory of the cosines
        cosine, index = (rows @ bank.T).topk(min(k, len(bank)), dim=1)
        # relative to the nearest row, so that a small temperature cannot overflow
        weight = torch.ones_like(cosine) if temperature is None else ((cosine - cosine[:, :1]) / temperature).exp()
        votes = weight.new_zeros(len(rows), len(classes)).scatter_add_(1, bank_labels[index], weight)
        predicted.append(classes[votes.argmax(1)])
    return accuracy(torch.cat(predicted), query_labels)


def wide(x: Tensor) -> Tensor:
    """``x`` in float32, or unchanged if it is float32 or float64."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
