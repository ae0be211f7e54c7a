"""The torch reference of a shared MLP on grouped rows, and the checks before it runs.

Sizes as in :mod:`geo3d.ops.dense.grouped`: G groups of at most k entries, M points with F channels, L layers, the last
one with C channels.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from geo3d.errors import CloudError
from geo3d.ops import native
from geo3d.ops.checks import check_device, check_finite
from geo3d.ops.dense.matrix import signs

Tensors = Sequence[Tensor]

WHAT = "features or positions"
"""How errors name the input."""


class Rows(NamedTuple):
    """Grouped rows: edges ``[p_j - c_i ; f_j ; o_i]`` to the neighbours j of each centre i, or ``features`` themselves.

    Attributes:
        features: (M, F) f of the points, or None where edges hold only offsets.
        pos: (M, 3) positions p of the points; None where edges have no offsets.
        centers: (G, 3) positions c of the centres, with ``pos``.
        neighbors: (G, k) rows of the points; in each row, entries from ``counts`` on repeat the first one. None where
            the groups are runs of ``features``.
        counts: (G,) how many entries of each row of ``neighbors`` are distinct, or how many rows each group has.
        own: (G, E) features o of the centres; None where edges have none.
    """

    features: Tensor | None
    pos: Tensor | None
    centers: Tensor | None
    neighbors: Tensor | None
    counts: Tensor
    own: Tensor | None = None


def leaky_relu(x: Tensor, slope: float) -> Tensor:
    """LeakyReLU; with a slope of 0 a ReLU, which makes no negative zeros."""
    return F.leaky_relu(x, slope) if slope else F.relu(x)


def reference(
    rows: Rows, weights: Tensors, norms: Tensors, eps: float, activated: bool, slope: float = 0.0
) -> tuple[Tensor, ...]:
    """The definition of ``grouped_max`` and ``grouped_max_train`` in differentiable torch operations.

    Args:
        rows: The input.
        weights: (C_l, C_(l-1)) for each of at least two layers; the columns of the first are those of the offset, of
            ``features`` and of ``own``.
        norms: For each layer the bias of the linear layer, gamma and beta, each (C_l,); then the mean and variance to
            normalise with, or neither to use those of the rows.
        eps: Added to the variances.
        activated: Whether a LeakyReLU follows the last norm.
        slope: Slope of the LeakyReLU after each norm.

    Returns:
        (G, C) the maxima; (G, C) the maxima of the last linear layer's output without bias, times the sign of gamma;
        (G, C) which row of its group each of these is; and one vector: the means (without biases) of all layers, their
        variances, and the mean of the last layer's input.
    """
    neighbors, count, size = rows.neighbors, rows.counts, len(norms) // len(weights)
    means, variances, h, x = [], [], weights[0], weights[0]
    for i, weight in enumerate(weights):
        bias, gamma, beta, *statistics = norms[size * i : size * (i + 1)]
        x = leaky_relu(h, slope) if i else _first_inputs(rows)
        raw = F.linear(x, weight)  # without the bias, which the mean would cancel
        mean, var = (statistics[0] - bias, statistics[1]) if statistics else (raw.mean(0), raw.var(0, correction=0))
        h = (raw - mean) * torch.rsqrt(var + eps) * gamma + beta
        means.append(mean)
        variances.append(var)

    sizes = count if neighbors is None else torch.full_like(count, neighbors.shape[1])
    group = torch.arange(len(count), device=h.device).repeat_interleave(sizes, output_size=len(h))[:, None].expand_as(h)
    signed = raw * signs(gamma)
    out, top = (
        _largest(values, group, len(count)) for values in (leaky_relu(h, slope) if activated else h, signed.detach())
    )
    back = -torch.arange(len(h), device=h.device)[:, None].expand_as(h)  # the first row has the largest number
    winner = _largest(torch.where(signed == top.gather(0, group), back, -len(h)), group, len(count))
    slot = _largest(back, group, len(count)) - winner
    return out, top, slot.int(), torch.cat([*means, *variances, x.mean(0)]).detach()


def _largest(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    empty = values.new_zeros(num_groups, values.shape[1])
    return empty.scatter_reduce(0, group, values, "amax", include_self=False)


def _first_inputs(rows: Rows) -> Tensor:
    """(G k, 3 + F + E) all edges, repeated ones included, or (M, F) the features."""
    if rows.neighbors is None:
        assert rows.features is not None
        return rows.features
    parts = []
    if rows.pos is not None and rows.centers is not None:
        parts.append(rows.pos[rows.neighbors] - rows.centers[:, None])
    if rows.features is not None:
        parts.append(rows.features[rows.neighbors])
    if rows.own is not None:
        parts.append(rows.own[:, None].expand(-1, rows.neighbors.shape[1], -1))
    return torch.cat(parts, 2).flatten(0, 1)


def columns(rows: Rows, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The columns of the first weight for the offsets, for the features and for the centre's own features."""
    offsets = 0 if rows.neighbors is None or rows.pos is None else 3
    own = 0 if rows.own is None else rows.own.shape[1]
    of_offsets, of_features, of_own = weight.split([offsets, weight.shape[1] - offsets - own, own], 1)
    return of_offsets, of_features, of_own


def check_form(rows: Rows, weights: Tensors, norms: Tensors, vectors: int) -> None:
    """Check shapes, index types and devices; each layer needs ``vectors`` norms.

    Raises:
        CloudError: If something does not fit.
    """
    features, pos, centers, neighbors, counts, own = rows
    check_device(WHAT, *rows, *weights, *norms)
    fits = counts.dim() == 1 and counts.dtype == torch.int64 and (features is None or features.dim() == 2)
    depth = 0 if features is None or features.dim() != 2 else features.shape[1]
    if neighbors is None:
        fits = fits and features is not None and own is None
    else:
        fits = (
            fits and neighbors.dim() == 2 and neighbors.shape[0] == counts.shape[0] and neighbors.dtype == torch.int64
        )
        fits = fits and (features is not None or pos is not None) and (pos is None) == (centers is None)
        if pos is not None and centers is not None:
            fits = fits and pos.dim() == 2 and pos.shape[1] == 3 and tuple(centers.shape) == (counts.shape[0], 3)
            fits = fits and (features is None or features.shape[0] == pos.shape[0])
            depth += 3
        if own is not None:
            fits = fits and own.dim() == 2 and own.shape[0] == counts.shape[0]
            depth += own.shape[-1]
    for i, weight in enumerate(weights):
        layer = norms[vectors * i : vectors * (i + 1)]
        fits = fits and weight.dim() == 2 and weight.shape[1] == depth and len(layer) == vectors
        fits = fits and all(tuple(vector.shape) == (weight.shape[0],) for vector in layer)
        depth = weight.shape[0]
    if not fits or len(weights) < 2 or len(norms) != vectors * len(weights):
        shapes = ", ".join("none" if t is None else f"{t.dtype} {tuple(t.shape)}" for t in (*rows, *weights, *norms))
        raise CloudError(
            "a network on groups needs features (M, F), or positions (M, 3), centres (G, 3), int64 neighbors (G, k), "
            f"int64 counts (G,), maybe features of the centres (G, E), at least two weights (out, in), each as wide as "
            f"the layer before, and {vectors} vectors (out,) for each; found {shapes}"
        )


def checked(rows: Rows) -> Rows:
    """The rows after a check of counts and neighbors (on a CPU); padding in ``neighbors`` becomes the first entry.

    Raises:
        CloudError: If a count or a neighbour is out of range.
    """
    neighbors, counts = rows.neighbors, rows.counts
    if counts.device.type != "cpu":
        return rows
    if neighbors is None:
        assert rows.features is not None
        if bool((counts < 1).any()) or int(counts.sum()) != len(rows.features):
            raise native.error(native.BAD_OFFSETS, WHAT)
        return rows
    points = rows.features if rows.pos is None else rows.pos
    assert points is not None
    bad = bool(((counts < 1) | (counts > neighbors.shape[1])).any())
    distinct = torch.arange(neighbors.shape[1]) < counts[:, None]
    if bad or bool((((neighbors < 0) | (neighbors >= len(points))) & distinct).any()):
        raise native.error(native.BAD_INDEX, WHAT)
    return rows._replace(neighbors=torch.where(distinct, neighbors, neighbors[:, :1]))


def check_entering(rows: Rows, weight: Tensor) -> None:
    """Check that the first layer gets finite values, because a ReLU or a maximum could hide NaN.

    Raises:
        NotFiniteError: If features times ``weight``, positions or centres are not finite.
    """
    _, of_features, of_own = columns(rows, weight)
    if rows.features is not None:
        check_finite(WHAT, F.linear(rows.features, of_features))
    if rows.own is not None:
        check_finite(WHAT, F.linear(rows.own, of_own))
    if rows.pos is not None and rows.centers is not None:
        check_finite(WHAT, rows.pos, rows.centers)
