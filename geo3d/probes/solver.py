"""Minimise |W|^2 / 2 + C * loss over linear classifiers, for all classes at once.

The features are first rotated to their principal axes. This leaves the minimum as it is: the penalty is invariant to
rotation, and an unpenalised intercept absorbs the mean. Along these axes the curvature is nearly diagonal, so that
scaling every weight by it gives L-BFGS a well-conditioned problem at any C.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.optimize import minimize

from geo3d.probes.features import Matrix

Loss: TypeAlias = Callable[[Matrix, Matrix], tuple[float, Matrix, Matrix]]
"""(logits (n, K), one-hot targets (n, K)) -> the sum, its gradient and the diagonal of its curvature, both (n, K)."""


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
        """(n, R) coordinates of the rows of ``x`` along the axes."""
        return (x - self.mean) @ self.basis


def principal_axes(x: Matrix, centre: bool = True) -> Axes:
    """The principal axes of the rows (n, D) about their mean, or about 0, without axes along which they do not vary."""
    mean = x.mean(0) if centre else np.zeros(x.shape[1])
    centred = x - mean
    outer = np.eye(x.shape[1])
    if len(x) < x.shape[1]:  # fewer rows than channels: work inside the span of the rows
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
        start: (R + 1, K) initial weights, for example those for a smaller C; by default 0.
        tol: Stop when the objective is above its minimum by about this fraction of its value.
        max_iter: Maximum number of L-BFGS steps.
        penalise_intercept: Whether |W|^2 includes the intercepts, as in liblinear.
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
    while steps < max_iter:  # usually two rounds: the second scales by the curvature near the solution
        value, gradient, bend = objective(weights)
        curvature = penalty + C * np.concatenate([(z**2).T @ bend, bend.sum(0, keepdims=True)])
        curvature[-1] += 1e-6 * C * len(z)  # the intercept has no curvature if no row falls short of the margin
        scale = 1 / np.sqrt(curvature)
        if height(scale * gradient, value) <= tol or not value < least:
            break
        least = value
        weights, taken = descend(objective, weights, scale, tol, max_iter - steps)
        steps += taken
    return weights


def height(gradient: Matrix, value: float) -> float:
    """Estimate of how far the objective is above its minimum, as a fraction of it, if the curvature is about 1."""
    return 0.5 * float((gradient**2).sum()) / value


def descend(
    objective: Callable[[Matrix], tuple[float, Matrix, Matrix]], weights: Matrix, scale: Matrix, tol: float, steps: int
) -> tuple[Matrix, int]:
    """The weights after at most ``steps`` L-BFGS steps in units of ``scale``, and the number of steps taken."""
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
    result = minimize(scaled, first, jac=True, method="L-BFGS-B", callback=stop_when_close, options=options)
    return scale * result.x.reshape(scale.shape), max(1, result.nit)
