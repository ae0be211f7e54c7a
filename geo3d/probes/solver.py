"""The least |W|^2 / 2 + C * loss over linear classifiers, for all classes at once.

The features are turned to their principal axes first. The objective cannot tell (the penalty is invariant to
rotation, and the intercept, which is not penalised, takes up the mean), but there the curvature is nearly diagonal,
so that scaling every weight by it leaves L-BFGS a well-conditioned problem at any C.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.optimize import minimize

from geo3d.probes.features import Matrix

Loss: TypeAlias = Callable[[Matrix, Matrix], tuple[float, Matrix, Matrix]]
"""(logits (n, K), one-hot targets (n, K)) -> the sum, its gradient and the diagonal of its curvature, (n, K) both."""


def squared_hinge(logits: Matrix, target: Matrix) -> tuple[float, Matrix, Matrix]:
    """Sum over rows and classes of max(0, 1 - s f)^2 with s = 1 for the row's own class and -1 for the others."""
    sign = 2 * target - 1
    short = np.maximum(1 - sign * logits, 0)
    return float((short**2).sum()), -2 * sign * short, np.where(short > 0, 2.0, 0.0)


def cross_entropy(logits: Matrix, target: Matrix) -> tuple[float, Matrix, Matrix]:
    """Sum over rows of the negative log-likelihood of the row's class under softmax(logits)."""
    shifted = logits - logits.max(1, keepdims=True)
    exp = np.exp(shifted)
    total = exp.sum(1, keepdims=True)
    p = exp / total
    return float(np.log(total).sum() - (shifted * target).sum()), p - target, p * (1 - p)


class Axes(NamedTuple):
    """The principal axes of a feature matrix."""

    mean: Matrix
    """(D,)"""
    basis: Matrix
    """(D, R) orthonormal columns that span the centred rows"""

    def turn(self, x: Matrix) -> Matrix:
        """(n, R) coordinates of the rows of ``x``."""
        return (x - self.mean) @ self.basis


def principal_axes(x: Matrix, centre: bool = True) -> Axes:
    """The axes along which the rows (n, D) vary about their mean, or about 0, without those along which they do not."""
    mean = x.mean(0) if centre else np.zeros(x.shape[1])
    centred = x - mean
    outer = np.eye(x.shape[1])
    if len(x) < x.shape[1]:  # fewer rows than channels: look inside the rows' span only
        outer, triangle = np.linalg.qr(centred.T)
        centred = triangle.T
    variance, inner = np.linalg.eigh(centred.T @ centred)
    kept = variance > 1e-15 * max(variance[-1], np.finfo(float).tiny)
    basis = inner[:, kept] if len(x) >= x.shape[1] else outer @ inner[:, kept]
    return Axes(mean, basis)


def solve(
    z: Matrix,
    target: Matrix,
    C: float,
    loss: Loss,
    start: Matrix | None = None,
    tol: float = 1e-6,
    max_iter: int = 1000,
    penalise_intercept: bool = False,
) -> Matrix:
    """(R + 1, K) weights, the intercepts in the last row, that minimise |W|^2 / 2 + C * loss.

    Args:
        z: (n, R) features along their principal axes.
        target: (n, K) one-hot labels.
        C: Weight of the loss.
        loss: ``squared_hinge`` or ``cross_entropy``.
        start: (R + 1, K) where to begin, for example the weights for a smaller C.
        tol: How far, about, the objective may stay above its least value, as a fraction of it.
        max_iter: Most L-BFGS steps.
        penalise_intercept: Count the intercepts in |W|^2, as liblinear does.
    """
    shape = (z.shape[1] + 1, target.shape[1])
    penalty = np.ones((shape[0], 1))
    penalty[-1] = float(penalise_intercept)

    def objective(weights: Matrix) -> tuple[float, Matrix, Matrix]:
        value, slope, bend = loss(z @ weights[:-1] + weights[-1], target)
        gradient = penalty * weights + C * np.concatenate([z.T @ slope, slope.sum(0, keepdims=True)])
        return 0.5 * float((penalty * weights**2).sum()) + C * value, gradient, bend

    weights = np.zeros(shape) if start is None else start
    steps, least = 0, np.inf
    while steps < max_iter:  # usually two rounds: the second has the curvature of nearly the solution
        value, gradient, bend = objective(weights)
        curvature = penalty + C * np.concatenate([(z**2).T @ bend, bend.sum(0, keepdims=True)])
        curvature[-1] += 1e-6 * C * len(z)  # where no row is short of the margin, the intercept has none
        scale = 1 / np.sqrt(curvature)
        if height(scale * gradient, value) <= tol or not value < least:
            break
        least = value
        weights, taken = descend(objective, weights, scale, tol, max_iter - steps)
        steps += taken
    return weights


def height(gradient: Matrix, value: float) -> float:
    """How far, about, the objective is above its least value, as a fraction, where the curvature is about 1."""
    return 0.5 * float((gradient**2).sum()) / value


def descend(
    objective: Callable[[Matrix], tuple[float, Matrix, Matrix]], weights: Matrix, scale: Matrix, tol: float, steps: int
) -> tuple[Matrix, int]:
    """Where at most ``steps`` L-BFGS steps from ``weights`` in units of ``scale`` lead, and how many were taken."""
    above = np.inf

    def scaled(flat: Matrix) -> tuple[float, Matrix]:
        nonlocal above
        value, gradient, _ = objective(scale * flat.reshape(scale.shape))
        above = height(scale * gradient, value)
        return value, (scale * gradient).ravel()

    def stop_when_close(_: Matrix) -> None:
        if above <= tol:
            raise StopIteration

    options = {"maxiter": steps, "maxfun": 2 * steps, "gtol": 0.0, "ftol": 0.0, "maxcor": 10}
    first = (weights / scale).ravel()
    found = minimize(scaled, first, jac=True, method="L-BFGS-B", callback=stop_when_close, options=options)
    return scale * found.x.reshape(scale.shape), max(1, found.nit)
