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
    """Grouped rows: the edges of a ball query, or the rows of ``features`` where ``neighbors`` is None.

    Attributes:
        features: (M, F), or None where edges hold only offsets.
        pos: (M, 3) positions of the points.
        centers: (G, 3).
        neighbors: (G, k) rows of ``pos``; in each row, entries from ``counts`` on repeat the first one.
        counts: (G,) how many entries of each row of ``neighbors`` are distinct, or how many rows each group has.
    """

    features: Tensor | None
    pos: Tensor | None
    centers: Tensor | None
    neighbors: Tensor | None
    counts: Tensor


def reference(rows: Rows, weights: Tensors, norms: Tensors, eps: float, activated: bool) -> tuple[Tensor, ...]:
    """The definition of ``grouped_max`` and ``grouped_max_train`` in differentiable torch operations.

    Args:
        rows: The input.
        weights: (C_l, C_(l-1)) for each of at least two layers; in the first, the columns of the offset come first.
        norms: For each layer the bias of the linear layer, gamma and beta, each (C_l,); then the mean and variance to
            normalise with, or neither to use those of the rows.
        eps: Added to the variances.
        activated: Whether a ReLU follows the last norm.

    Returns:
        (G, C) the maxima; (G, C) the maxima of the last linear layer's output without bias, times the sign of gamma;
        (G, C) which row of its group each of these is; and one vector: the means (without biases) of all layers, their
        variances, and the mean of the last layer's input.
    """
    neighbors, count, size = rows.neighbors, rows.counts, len(norms) // len(weights)
    means, variances, h, x = [], [], weights[0], weights[0]
    for i, weight in enumerate(weights):
        bias, gamma, beta, *statistics = norms[size * i : size * (i + 1)]
        x = F.relu(h) if i else _first_inputs(rows)
        raw = F.linear(x, weight)  # without the bias, which the mean would cancel
        mean, var = (statistics[0] - bias, statistics[1]) if statistics else (raw.mean(0), raw.var(0, correction=0))
        h = (raw - mean) * torch.rsqrt(var + eps) * gamma + beta
        means.append(mean)
        variances.append(var)

    sizes = count if neighbors is None else torch.full_like(count, neighbors.shape[1])
    group = torch.arange(len(count), device=h.device).repeat_interleave(sizes, output_size=len(h))[:, None].expand_as(h)
    signed = raw * signs(gamma)
    out, top = (_largest(values, group, len(count)) for values in (F.relu(h) if activated else h, signed.detach()))
    back = -torch.arange(len(h), device=h.device)[:, None].expand_as(h)  # the first row has the largest number
    winner = _largest(torch.where(signed == top.gather(0, group), back, -len(h)), group, len(count))
    slot = _largest(back, group, len(count)) - winner
    return out, top, slot.int(), torch.cat([*means, *variances, x.mean(0)]).detach()


def _largest(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    empty = values.new_zeros(num_groups, values.shape[1])
    return empty.scatter_reduce(0, group, values, "amax", include_self=False)


def _first_inputs(rows: Rows) -> Tensor:
    """(G k, 3 + F) all edges, repeated ones included, or (M, F) the features."""
    if rows.neighbors is None:
        assert rows.features is not None
        return rows.features
    assert rows.pos is not None and rows.centers is not None
    parts = [rows.pos[rows.neighbors] - rows.centers[:, None]]
    if rows.features is not None:
        parts.append(rows.features[rows.neighbors])
    return torch.cat(parts, 2).flatten(0, 1)


def check_form(rows: Rows, weights: Tensors, norms: Tensors, vectors: int) -> None:
    """Check shapes, index types and devices; each layer needs ``vectors`` norms.

    Raises:
        CloudError: If something does not fit.
    """
    features, pos, centers, neighbors, counts = rows
    check_device(WHAT, *rows, *weights, *norms)
    fits = counts.dim() == 1 and counts.dtype == torch.int64 and (features is None or features.dim() == 2)
    depth = 0 if features is None or features.dim() != 2 else features.shape[1]
    if neighbors is None:
        fits = fits and features is not None
    else:
        fits = (
            fits and neighbors.dim() == 2 and neighbors.shape[0] == counts.shape[0] and neighbors.dtype == torch.int64
        )
        fits = fits and pos is not None and pos.dim() == 2 and pos.shape[1] == 3
        fits = fits and centers is not None and tuple(centers.shape) == (counts.shape[0], 3)
        fits = fits and (features is None or pos is None or features.shape[0] == pos.shape[0])
        depth += 3
    for i, weight in enumerate(weights):
        layer = norms[vectors * i : vectors * (i + 1)]
        fits = fits and weight.dim() == 2 and weight.shape[1] == depth and len(layer) == vectors
        fits = fits and all(tuple(vector.shape) == (weight.shape[0],) for vector in layer)
        depth = weight.shape[0]
    if not fits or len(weights) < 2 or len(norms) != vectors * len(weights):
        shapes = ", ".join("none" if t is None else f"{t.dtype} {tuple(t.shape)}" for t in (*rows, *weights, *norms))
        raise CloudError(
            "a network on groups needs features (M, F), or positions (M, 3), centres (G, 3), int64 neighbors (G, k), "
            f"int64 counts (G,), at least two weights (out, in), each as wide as the layer before, and {vectors} "
            f"vectors (out,) for each; found {shapes}"
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
    assert rows.pos is not None
    bad = bool(((counts < 1) | (counts > neighbors.shape[1])).any())
    distinct = torch.arange(neighbors.shape[1]) < counts[:, None]
    if bad or bool((((neighbors < 0) | (neighbors >= len(rows.pos))) & distinct).any()):
        raise native.error(native.BAD_INDEX, WHAT)
    return rows._replace(neighbors=torch.where(distinct, neighbors, neighbors[:, :1]))


def check_entering(rows: Rows, weight: Tensor) -> None:
    """Check that the first layer gets finite values, because a ReLU or a maximum could hide NaN.

    Raises:
        NotFiniteError: If features times ``weight``, positions or centres are not finite.
    """
    if rows.features is not None:
        check_finite(WHAT, F.linear(rows.features, weight if rows.neighbors is None else weight[:, 3:]))
    if rows.pos is not None and rows.centers is not None:
        check_finite(WHAT, rows.pos, rows.centers)
