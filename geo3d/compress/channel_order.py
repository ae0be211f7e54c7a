"""The order of a layer's input channels in which its weight is nearest to a structured one.

With windows of L channels, ``W = alpha A^T`` for some alpha if and only if the columns of W, summed over each class of
positions p mod L, give L equal sums: vectors that are orthogonal to all windows are those of period L and mean zero.
So only which channels share a class matters. If ``R <= L``, which holds for reductions by 2 and more, R - 1 classes
have two members and the others one: each pair keeps its difference, and the rest is one common column.
"""

import numpy as np
import torch
from torch import Tensor

SWEEPS = 1 << 33
"""Number of sweeps: min(100, SWEEPS / P^3). A sweep costs P^3 and exchanges all pairs that do not interfere."""

ENOUGH = 1e-3
"""The search ends after a sweep that lowers the error by less than this fraction."""


def channel_order(columns: Tensor, rank: int, precision: Tensor | None = None) -> Tensor:
    """(P,) int64 permutation in which ``columns`` are closer to a structured matrix than as they lie.

    Channels of different classes are exchanged as long as that lowers the error of the best fit. The error is
    ``tr (W U) Q (W U)^T``: U (P, L) says which channel is of which class, K is the precision, and Q inverts ``U^T K U``
    on vectors of mean zero.

    Args:
        columns: (out, P) weight.
        rank: R.
        precision: (P, P) inverse K of the second moments of the inputs, for the error behind such inputs; by default
            the identity, for that of the weight.
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
    """The class of each channel after all exchanges that lower the error, for ``gram = W^T W``."""
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
    """The error, and (P, P) how much exchanging channels a and b lowers it.

    The exchange adds ``d = w_b - w_a`` to the sum of a's class and takes it from that of b's, ``U' = U + e delta^T``
    with ``e = e_b - e_a``, and changes ``U^T K U`` by a matrix of rank two, ``[delta, v] [[kappa, 1], [1, 0]] [delta,
    v]^T`` with ``v = U^T K e`` and ``kappa = e^T K e``: the inverse follows by Woodbury's formula.
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
    """The best exchanges, with no class in more than one of them."""
    partner = gain.argmax(1)
    best = gain[np.arange(len(group)), partner]
    used: set[int] = set()
    found = []
    for a in np.argsort(-best, kind="stable").tolist():
        b = int(partner[a])
        if best[a] > 0 and not used & {int(group[a]), int(group[b])}:
            used |= {int(group[a]), int(group[b])}
            found.append((a, b))
    return found


def _positions(group: np.ndarray, length: int) -> np.ndarray:
    """(P,) the channel at each position, class g at g, g + L, g + 2 L, ..."""
    channel = np.argsort(group, kind="stable")
    classes = group[channel]
    number = np.arange(len(group)) - np.searchsorted(classes, classes)
    order = np.empty_like(channel)
    order[classes + number * length] = channel
    return order
