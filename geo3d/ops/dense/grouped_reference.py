"""The definition of a small network on rows in groups, in torch, and what is refused before it runs.

Sizes as in :mod:`geo3d.ops.dense.grouped`: G groups, k entries of a group at most, M points, F channels of theirs,
C channels of the last of L layers.
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
"""What errors call the input."""


class Rows(NamedTuple):
    """Rows in groups: the edges of a ball query, or ``features`` themselves where there is no table.

    Attributes:
        features: (M, F), or None for edges that are offsets alone.
        pos: (M, 3) positions of the points.
        centers: (G, 3).
        neighbors: (G, k) rows of ``pos``; those from ``counts`` on repeat the first one.
        counts: (G,) distinct entries of each row of the table, or rows of each group.
    """

    features: Tensor | None
    pos: Tensor | None
    centers: Tensor | None
    neighbors: Tensor | None
    counts: Tensor


def reference(rows: Rows, weights: Tensors, norms: Tensors, eps: float, activated: bool) -> tuple[Tensor, ...]:
    """What ``grouped_max`` and ``grouped_max_train`` are by definition, from differentiable pieces in torch.

    Args:
        rows: What the network works on.
        weights: Of each layer (C_l, C_(l-1)); in the first one the columns of the offset come first. Two at least.
        norms: Of each layer the linear layer's bias, gamma, beta, and then, if they shall not be those of the rows,
            mean and variance.
        eps: Of the norms.
        activated: Whether a ReLU follows the last norm.

    Returns:
        The maxima (G, C); those of what the last linear layer gives, times the sign of gamma and without its bias;
        which row of its group each one is; means, without biases, and variances of all layers, and the mean of the
        last one's input.
    """
    neighbors, count, size = rows.neighbors, rows.counts, len(norms) // len(weights)
    means, variances, h, x = [], [], weights[0], weights[0]
    for i, weight in enumerate(weights):
        bias, gamma, beta, *given = norms[size * i : size * (i + 1)]  # statistics take the bias away
        x = F.relu(h) if i else _first_inputs(rows)
        raw = F.linear(x, weight)
        mean, var = (given[0] - bias, given[1]) if given else (raw.mean(0), raw.var(0, correction=0))
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
    """(G k, 3 + F) every edge, repeated ones too, or the rows as given."""
    if rows.neighbors is None:
        assert rows.features is not None
        return rows.features
    assert rows.pos is not None and rows.centers is not None
    parts = [rows.pos[rows.neighbors] - rows.centers[:, None]]
    if rows.features is not None:
        parts.append(rows.features[rows.neighbors])
    return torch.cat(parts, 2).flatten(0, 1)


def check_form(rows: Rows, weights: Tensors, norms: Tensors, vectors: int) -> None:
    """Check shapes, index types and devices; so many vectors belong to each layer.

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
        found = ", ".join("none" if t is None else f"{t.dtype} {tuple(t.shape)}" for t in (*rows, *weights, *norms))
        raise CloudError(
            "a network on groups needs features (M, F), or positions (M, 3), centres (G, 3), int64 neighbors (G, k), "
            f"int64 counts (G,), two layers or more whose weights follow each other, and {vectors} vectors for each; "
            f"found {found}"
        )


def checked(rows: Rows) -> Rows:
    """The rows, if counts and the table are such as the kernels take; what fills up the table is its first entry."""
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
    """Check that what enters the network is finite: a ReLU or a maximum could swallow what is not."""
    if rows.features is not None:
        check_finite(WHAT, F.linear(rows.features, weight if rows.neighbors is None else weight[:, 3:]))
    if rows.pos is not None and rows.centers is not None:
        check_finite(WHAT, rows.pos, rows.centers)
