"""The Lovász-softmax loss (arXiv 1705.08790), a surrogate of the mean IoU."""

import torch
from torch import Tensor


def lovasz_softmax(probabilities: Tensor, labels: Tensor) -> Tensor:
    """() mean over the classes in ``labels`` of the Lovász extension of the Jaccard loss.

    For a class c the errors are ``|[y_i = c] - p_ic|``. Sorted from the largest, each is weighted by how much the
    Jaccard loss grows when its point joins the points that are wrong.

    Args:
        probabilities: (P, C), rows that sum to 1.
        labels: (P,) true classes.

    Example:
        >>> float(lovasz_softmax(torch.eye(2), torch.tensor([0, 1])))
        0.0
    """
    losses = []
    for c in labels.unique().tolist():
        true = (labels == c).to(probabilities.dtype)
        errors, order = (true - probabilities[:, c]).abs().sort(descending=True)
        true = true[order]
        total = true.sum()
        jaccard = 1 - (total - true.cumsum(0)) / (total + (1 - true).cumsum(0))
        losses.append(errors @ torch.cat([jaccard[:1], jaccard.diff()]))
    return torch.stack(losses).mean()
