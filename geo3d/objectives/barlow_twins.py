"""Barlow Twins (arXiv 2103.03230): each dimension agrees between views, different dimensions are uncorrelated."""

from itertools import combinations

import torch
from torch import Tensor

from geo3d.checks import checked
from geo3d.distributed import gather
from geo3d.objectives.objective import Eps, Objective, Terms, Weight


def off_diagonal(matrix: Tensor) -> Tensor:
    """The (D, D) matrix with zeros on its diagonal.

    Example:
        >>> off_diagonal(torch.ones(2, 2)).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    return matrix - torch.diag(matrix.diagonal())


def cross_correlation(a: Tensor, b: Tensor, eps: float = 1e-5) -> Tensor:
    """The (D, D) correlations over the batch of every dimension of ``a`` with every dimension of ``b``, both (B, D).

    ``eps`` is added to the biased variances, so a dimension that is constant over the batch has correlation 0.
    """
    a, b = a - a.mean(0), b - b.mean(0)
    a = a * torch.rsqrt(a.square().mean(0) + eps)
    b = b * torch.rsqrt(b.square().mean(0) + eps)
    return a.T @ b / len(a)


def barlow_twins(a: Tensor, b: Tensor, lambd: float = 0.0051, eps: float = 1e-5) -> Tensor:
    """The loss (): with C the cross-correlation of two views (B, D), sum (1 - C_ii)^2 + lambd sum_(i != j) C_ij^2."""
    invariance, redundancy = parts(a, b, eps)
    return invariance + lambd * redundancy


def parts(a: Tensor, b: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """The invariance term and the (unweighted) redundancy term of :func:`barlow_twins`."""
    correlation = cross_correlation(a, b, eps)
    return (1 - correlation.diagonal()).square().sum(), off_diagonal(correlation).square().sum()


class BarlowTwins(Objective):
    """Barlow Twins, averaged over the pairs of views, with correlations over the clouds of all processes.

    Args:
        lambd: Weight of the redundancy term.
        eps: Added to variances before dividing.
    """

    @checked
    def __init__(self, lambd: Weight = 0.0051, eps: Eps = 1e-5) -> None:
        super().__init__()
        self.lambd, self.eps = lambd, eps

    def loss(self, views: list[Tensor], targets: list[Tensor]) -> tuple[Tensor, Terms]:
        """The loss and its two terms, unweighted."""
        pairs = [parts(a, b, self.eps) for a, b in combinations([gather(v) for v in views], 2)]
        invariance, redundancy = (torch.stack(term).mean() for term in zip(*pairs, strict=True))
        return invariance + self.lambd * redundancy, {"invariance": invariance, "redundancy": redundancy}

    def extra_repr(self) -> str:
        """The arguments."""
        return f"lambd={self.lambd}, eps={self.eps}"
