"""VICReg (arXiv 2105.04906): views agree, every dimension varies over the batch, no two dimensions vary together."""

from itertools import combinations
from typing import Annotated

import torch
from torch import Tensor

from geo3d.checks import Range, checked
from geo3d.distributed import gather
from geo3d.objectives.barlow_twins import off_diagonal
from geo3d.objectives.objective import Eps, Objective, Terms, Weight

Coefficient = Annotated[float, Range(0, 1e6)]


def invariance(a: Tensor, b: Tensor) -> Tensor:
    """The mean () squared difference of two views (B, D), over rows and dimensions.

    The published coefficients belong to this mean, which is in the paper's algorithm; the paper's equation sums over D.
    """
    return (a - b).square().mean()


def variance(z: Tensor, gamma: float = 1.0, eps: float = 1e-4) -> Tensor:
    """The mean () over dimensions of how far ``sqrt(variance + eps)`` of z (B, D) falls short of ``gamma``.

    Example:
        >>> float(variance(torch.zeros(3, 2)))
        0.9900000095367432
    """
    return (gamma - (z.var(0) + eps).sqrt()).relu().mean()


def covariance(z: Tensor) -> Tensor:
    """The sum () of the squared covariances between different dimensions of z (B, D), divided by D."""
    z = z - z.mean(0)
    return off_diagonal(z.T @ z / (len(z) - 1)).square().sum() / z.shape[1]


class VICReg(Objective):
    """VICReg with statistics over the clouds of all processes.

    The invariance term is the mean over pairs of views. The variance and covariance terms of two views are added, as
    published; for more views, each term is twice its mean over views.

    Args:
        invariance: Coefficient of :func:`invariance`.
        variance: Coefficient of :func:`variance`.
        covariance: Coefficient of :func:`covariance`.
        gamma: The std that each dimension should reach.
        eps: Added to variances before the square root.
    """

    @checked
    def __init__(
        self,
        invariance: Coefficient = 25.0,
        variance: Coefficient = 25.0,
        covariance: Coefficient = 1.0,
        gamma: Weight = 1.0,
        eps: Eps = 1e-4,
    ) -> None:
        super().__init__()
        self.invariance, self.variance, self.covariance = invariance, variance, covariance
        self.gamma, self.eps = gamma, eps

    def loss(self, views: list[Tensor], targets: list[Tensor]) -> tuple[Tensor, Terms]:
        """The loss and its three terms, unweighted."""
        views = [gather(v) for v in views]
        inv = torch.stack([invariance(a, b) for a, b in combinations(views, 2)]).mean()
        var = 2 * torch.stack([variance(v, self.gamma, self.eps) for v in views]).mean()
        cov = 2 * torch.stack([covariance(v) for v in views]).mean()
        loss = self.invariance * inv + self.variance * var + self.covariance * cov
        return loss, {"invariance": inv, "variance": var, "covariance": cov}

    def extra_repr(self) -> str:
        """The arguments."""
        names = ("invariance", "variance", "covariance", "gamma", "eps")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)
