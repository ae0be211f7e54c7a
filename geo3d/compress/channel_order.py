"""The order of a layer's input channels in which its weight is nearest to a structured one.

A structured weight ``W (out, P)`` of rank R is ``alpha A^T``: alpha is (out, R), and column r of A (P, R) is one on a
window of ``L = P - R + 1`` channels and zero elsewhere (:mod:`geo3d.nn.structured`). Put the positions p of the
channels into L classes by ``p mod L``. Then W is structured if and only if the sum of its columns over a class is the
same for all classes. Proof: the rows of W have to be orthogonal to every vector n that is orthogonal to all windows.
Neighbouring windows differ by their ends, so n has period L, and its sum over a window, one period, is zero. Hence
``W n`` adds up the class sums with weights that sum to zero, and all such combinations vanish only if the class sums
are equal.

So the error depends only on which channels share a class. If ``R <= L``, which holds when R is at most half of P, then
R - 1 classes have two members and the others have one. A structured weight is then free in the difference of the two
columns of each pair, and in one class sum that all classes share.
"""

import numpy as np
import torch
from torch import Tensor

SWEEPS = 1 << 33
"""The search makes at most min(100, SWEEPS / P^3) sweeps. A sweep costs about P^3 operations, and exchanges many pairs
of channels at once, no two of which involve the same class."""

ENOUGH = 1e-3
"""The search ends after a sweep that lowers the error by less than this fraction."""


def channel_order(columns: Tensor, rank: int, precision: Tensor | None = None) -> Tensor:
    """(P,) int64 permutation ``order`` with which ``columns[:, order]`` is closer to a structured matrix than before.

    The search exchanges channels of different classes as long as that lowers the error of the best structured fit. The
    error is ``tr (W U) Q (W U)^T``. Entry (p, g) of U (P, L) is one if channel p is in class g, else zero. K is the
    precision, and ``Q = Z (Z^T U^T K U Z)^-1 Z^T`` for a basis Z of the vectors (L,) whose entries sum to zero.

    Args:
        columns: (out, P) dense weight W of the layer.
        rank: R, the number of windows of the structured layer.
        precision: (P, P) K, the inverse of the second moments ``E[x x^T]`` of the layer's inputs x; the error is then
            that of the layer's outputs. By default the identity: the error is that of the weight.
    """
    channels = columns.shape[1]
    length = channels - rank + 1
    weight = columns.detach().cpu().double().numpy()
    gram = weight.T @ weight
    group = _searched(gram, np.eye(channels), np.arange(channels) % length)
    if precision is not None:
        group = _searched(gram, precision.cpu().double().numpy(), group)
    return torch.from_numpy(_positions(group, length))


def _searched(gram: np.ndarray, precision: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(P,) class of each channel after the exchanges that lower the error, for ``gram = W^T W``."""
    error, gain = _gains(gram, precision, group)
    number = len(group)
    for _ in range(min(100, SWEEPS // number**3)):
        swaps = _swaps(gain, group)[:number]
        if not swaps:
            break
        a, b = np.array(swaps).T
        other = group.copy()
        other[a], other[b] = group[b], group[a]
        less, next_gain = _gains(gram, precision, other)
        if less > error - 0.5 * gain[a, b].sum() and len(swaps) > 1:
            number = len(swaps) // 2  # together they lower the error by less than half of the sum
            continue
        done = error - less < ENOUGH * error
        group, error, gain = other, less, next_gain
        if done:
            break
    return group


def _gains(gram: np.ndarray, precision: np.ndarray, group: np.ndarray) -> tuple[float, np.ndarray]:
    """The error, and (P, P) by how much exchanging channels a and b lowers it; 0 where the exchange does not help.

    Exchanging a and b adds the difference ``w_b - w_a`` of their columns to the sum of a's class and subtracts it from
    that of b's: ``U' = U + e delta^T``. Here ``e = e_b - e_a`` in channels, and delta is one at a's class and minus one
    at b's. This changes ``U^T K U`` by the rank-two matrix ``[delta, v] [[kappa, 1], [1, 0]] [delta, v]^T`` with
    ``v = U^T K e`` and ``kappa = e^T K e``, so the new inverse follows from Woodbury's formula.
    """
    member = np.eye(group.max() + 1)[group]
    z = member.T @ precision
    inverse = np.linalg.inv(z @ member)
    common = inverse.sum(0)
    q = inverse - np.outer(common, common) / common.sum()
    f = gram @ member @ q  # W^T S Q
    e = q @ member.T @ f
    error = float(np.einsum("pl,pl->", f, member))

    def in_classes(x: np.ndarray) -> np.ndarray:  # delta^T x delta
        return _spans(x)[np.ix_(group, group)]

    def across(x: np.ndarray) -> np.ndarray:  # delta^T x e, for x (L, P)
        here = x[group]
        own = np.diag(here)
        return here - own[:, None] - own + here.T

    a, b, c = in_classes(q), across(q @ z), _spans(z.T @ q @ z) - _spans(precision)
    size, along, turned = _spans(gram), across(f.T), _spans(f @ z)
    y11 = in_classes(e) + 2 * a * along + a**2 * size
    y12 = across(e @ z) + b * along + a * turned + a * b * size
    y22 = _spans(z.T @ e @ z) + 2 * b * turned + b**2 * size
    determinant = a * c - (1 + b) ** 2
    outside = group[:, None] != group
    removed = (c * y11 - 2 * (1 + b) * y12 + a * y22) / np.where(outside, determinant, 1.0)
    gain = removed - 2 * along - a * size
    return error, np.where(outside & (gain > 1e-9 * error), gain, 0.0)


def _spans(x: np.ndarray) -> np.ndarray:
    """(n, n) ``e^T x e`` for ``e = e_b - e_a``."""
    own = np.diag(x)
    return own[:, None] + own - x - x.T


def _swaps(gain: np.ndarray, group: np.ndarray) -> list[tuple[int, int]]:
    """The most useful exchanges (a, b), such that no class takes part in more than one."""
    partner = gain.argmax(1)
    best = gain[np.arange(len(group)), partner]
    used: set[int] = set()
    swaps = []
    for a in np.argsort(-best, kind="stable").tolist():
        b = int(partner[a])
        if best[a] > 0 and not used & {int(group[a]), int(group[b])}:
            used |= {int(group[a]), int(group[b])}
            swaps.append((a, b))
    return swaps


def _positions(group: np.ndarray, length: int) -> np.ndarray:
    """(P,) channel to put at each position: those of class g at the positions g, g + L, g + 2 L, ..."""
    channel = np.argsort(group, kind="stable")
    classes = group[channel]
    number = np.arange(len(group)) - np.searchsorted(classes, classes)
    order = np.empty_like(channel)
    order[classes + number * length] = channel
    return order
