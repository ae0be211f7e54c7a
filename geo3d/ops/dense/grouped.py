"""A shared MLP on grouped rows, then the maximum of each group, as in PointNet++ (arXiv:1706.02413).

Each layer is a linear layer, batch normalisation and a LeakyReLU, whose slope may be 0. The rows are edges,
``[p_j - c_i ; f_j ; o_i]`` for the neighbours j of each centre i, where a part may be missing, or the features
themselves. The compiled kernels work on blocks of rows that stay in the cache. They save no rows for the backward pass,
which computes them again. Where a ball query repeats an edge as padding, the kernels compute it once; statistics count
it as often as it occurs.

G groups of at most k entries, M points with F channels, L layers, the last one with C channels.
"""

from typing import Any

import torch
from torch import Tensor

from geo3d.ops import native
from geo3d.ops.dense.grouped_reference import (
    WHAT,
    Rows,
    Tensors,
    check_entering,
    check_form,
    checked,
    columns,
    leaky_relu,
    reference,
)
from geo3d.ops.dense.matrix import linear, multiply, outer, signs
from geo3d.ops.library import define

__all__ = ["WHAT", "Rows", "grouped_max", "grouped_max_train", "reference"]


class _Call:
    """Calls a compiled function with the arguments that all of them share.

    The first layer's products with the features of points and of centres are computed here, once each.
    """

    def __init__(self, rows: Rows, weights: Tensors) -> None:
        features, pos, centers, neighbors, count, own = (None if t is None else t.contiguous() for t in rows)
        assert count is not None
        self.rows, self.channels = rows, torch.tensor([len(w) for w in weights], dtype=torch.int64)
        self.first = weights[0].contiguous()
        of_offsets, self.of_features, self.of_own = columns(rows, self.first)
        self.of_offsets = of_offsets.contiguous() if of_offsets.shape[1] else None
        self.further = [w.contiguous() for w in weights[1:]]
        self.of_points = None if features is None else linear(features, self.of_features)
        self.of_groups = None if own is None else linear(own, self.of_own)
        points = features if pos is None else pos
        assert points is not None
        k = 1 if neighbors is None else neighbors.shape[1]
        self.source = [
            len(count), k, len(points), self.of_points, self.of_groups, pos, centers, self.of_offsets, neighbors, count,
            len(weights), self.channels,
        ]  # fmt: skip

    def __call__(self, name: str, norms: Tensors, *rest: Any) -> None:
        dense = [n.contiguous() for n in norms]
        native.call(name, *self.source, self.further, dense, *rest, what=WHAT)


# The functions below switch autocast off, because the kernels take float32 only.
def _usable(rows: Rows, *others: Tensor) -> bool:
    return native.usable(*[t for t in (*rows[:3], rows.own) if t is not None], *others)


@torch.autocast("cpu", enabled=False)
def _cpu(*arguments: Any) -> Tensor:
    rows, (weights, norms, eps, activated, slope) = Rows(*arguments[:6]), arguments[6:]
    if not _usable(rows, *weights, *norms):
        rows = checked(rows)
        check_entering(rows, weights[0])
        return reference(rows, weights, norms, eps, activated, slope)[0]
    out = norms[0].new_empty(len(rows.counts), len(weights[-1]))
    _Call(rows, weights)("grouped_max", norms, eps, int(activated), slope, out)
    return out


def _turned(weights: Tensors, norms: Tensors) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The weights, the gammas and betas, and the sign of the last gamma, which moves from there into the last weight.

    The maximum of the raw values is then also the maximum of the normalised ones.
    """
    sign = signs(norms[-2])
    pairs = [n for i, n in enumerate(norms) if i % 3]
    pairs[-2] = pairs[-2].abs()
    return [*weights[:-1], weights[-1] * sign[:, None]], pairs, sign


@torch.autocast("cpu", enabled=False)
def _cpu_train(*arguments: Any) -> tuple[Tensor, ...]:
    rows, (weights, norms, eps, activated, slope) = Rows(*arguments[:6]), arguments[6:]
    if not _usable(rows, *weights, *norms):
        return reference(checked(rows), weights, norms, eps, activated, slope)
    turned, pairs, sign = _turned(weights, norms)
    total, channels = sum(len(w) for w in weights), len(weights[-1])
    moments = norms[0].new_empty(2 * total + weights[-1].shape[1])
    top = norms[0].new_empty(len(rows.counts), channels)
    slot = torch.empty(top.shape, dtype=torch.int32)
    _Call(rows, turned)("grouped_train", pairs, eps, slope, top, slot, moments)
    mean, var = (moments[end - channels : end] for end in (total, 2 * total))
    out = (top - mean) * (torch.rsqrt(var + eps) * pairs[-2]) + norms[-1]
    mean *= sign
    return leaky_relu(out, slope) if activated else out, top, slot, moments


@torch.autocast("cpu", enabled=False)
def _cpu_backward(*arguments: Any) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    rows, (weights, norms, eps, slope, top, slot, moments, d_out) = Rows(*arguments[:6]), arguments[6:]
    assert _usable(rows, *weights, *norms)
    turned, pairs, sign = _turned(weights, norms)
    total, channels = sum(len(w) for w in weights), len(weights[-1])
    moments = moments.clone()
    moments[total - channels : total] *= sign
    call = _Call(rows, turned)
    d_of_points = None if call.of_points is None else torch.empty_like(call.of_points)
    d_of_groups = None if call.of_groups is None else torch.empty_like(call.of_groups)
    d_of_offsets = None if call.of_offsets is None else torch.empty_like(call.of_offsets)
    d_further, d_pairs = [torch.empty_like(w) for w in call.further], [torch.empty_like(n) for n in pairs]
    call(
        "grouped_backward",
        pairs,
        eps,
        slope,
        top,
        slot,
        moments,
        d_out.contiguous(),
        d_of_points,
        d_of_groups,
        d_of_offsets,
        d_further,
        d_pairs,
    )
    d_further[-1] *= sign[:, None]
    d_pairs[-2] *= sign
    d_features, d_own, parts = norms[0].new_empty(0), norms[0].new_empty(0), []
    if d_of_offsets is not None:
        parts.append(d_of_offsets)
    if d_of_points is not None and rows.features is not None:
        d_features = multiply(d_of_points, call.of_features)
        parts.append(outer(d_of_points, rows.features))
    if d_of_groups is not None and rows.own is not None:
        d_own = multiply(d_of_groups, call.of_own)
        parts.append(outer(d_of_groups, rows.own))
    d_norms = [torch.zeros_like(n) for n in norms]  # 0 for the biases: subtracting the mean cancels them
    for i in range(len(weights)):
        d_norms[3 * i + 1 : 3 * i + 3] = d_pairs[2 * i : 2 * i + 2]
    return d_features, d_own, [torch.cat(parts, 1), *d_further], d_norms


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *rows, weights, norms, ctx.eps, ctx.activated, ctx.slope = inputs
    outputs = (output,) if isinstance(output, Tensor) else output
    ctx.sizes = len(weights), len(norms)
    ctx.save_for_backward(*rows, *weights, *norms, *outputs)


def _saved(ctx: Any) -> tuple[Rows, tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
    saved = ctx.saved_tensors
    ends = 6, 6 + ctx.sizes[0], 6 + sum(ctx.sizes)
    return Rows(*saved[:6]), saved[6 : ends[1]], saved[ends[1] : ends[2]], saved[ends[2] :]


def _by_reference(ctx: Any, d_out: Tensor, *_: Any) -> tuple[Any, ...]:
    """Gradients by autograd, from running the torch reference on the saved inputs."""
    rows, weights, norms, _ = _saved(ctx)
    with torch.enable_grad():
        leaves = [None if t is None else t.detach() for t in (*rows, *weights, *norms)]
        floats = [t.requires_grad_() for t in leaves if t is not None and t.is_floating_point()]
        again = leaves[6 : 6 + len(weights)], leaves[6 + len(weights) :]
        out = reference(Rows(*leaves[:6]), *again, ctx.eps, ctx.activated, ctx.slope)[0]  # type: ignore[arg-type]
        of_floats = iter(torch.autograd.grad(out, floats, d_out, allow_unused=True))
    grads = [next(of_floats) if t is not None and t.is_floating_point() else None for t in leaves]
    return *grads[:6], grads[6 : 6 + len(weights)], grads[6 + len(weights) :], None, None, None


def _backward(ctx: Any, d_out: Tensor, *_: Any) -> tuple[Any, ...]:
    rows, weights, norms, outputs = _saved(ctx)
    out, *kept = outputs
    if not native.runs(d_out) or ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        return _by_reference(ctx, d_out)
    asked = torch.where(out > 0, d_out, ctx.slope * d_out if ctx.slope else 0.0) if ctx.activated else d_out
    d_features, d_own, d_weights, d_norms = torch.ops.geo3d.grouped_max_backward(
        *rows, weights, norms, ctx.eps, ctx.slope, *kept, asked
    )
    of_features, of_own = (None if t is None else d for t, d in ((rows.features, d_features), (rows.own, d_own)))
    return of_features, None, None, None, None, of_own, d_weights, d_norms, None, None, None


def _fake(*arguments: Any) -> Tensor:
    count, _, weights, norms = arguments[4:8]
    return norms[0].new_empty(count.shape[0], weights[-1].shape[0])


def _fake_train(*arguments: Any) -> tuple[Tensor, ...]:
    out, weights = _fake(*arguments), arguments[6]
    moments = out.new_empty(2 * sum(w.shape[0] for w in weights) + weights[-1].shape[1])
    return out, torch.empty_like(out), torch.empty_like(out, dtype=torch.int32), moments


def _fake_backward(*arguments: Any) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    features, own, weights, norms = arguments[0], *arguments[5:8]
    d_features, d_own = (norms[0].new_empty(0) if t is None else torch.empty_like(t) for t in (features, own))
    return d_features, d_own, [torch.empty_like(w) for w in weights], [torch.empty_like(n) for n in norms]


_INPUT = (
    "Tensor? features, Tensor? pos, Tensor? centers, Tensor? neighbors, Tensor count, Tensor? own, Tensor[] weights, "
    "Tensor[] norms"
)

define(
    f"grouped_max({_INPUT}, float eps, bool activated, float slope) -> Tensor",
    cpu=_cpu, fake=_fake, setup=_setup, backward=_by_reference,
)  # fmt: skip
define(
    f"grouped_max_train({_INPUT}, float eps, bool activated, float slope) -> (Tensor, Tensor, Tensor, Tensor)",
    cpu=_cpu_train, fake=_fake_train, setup=_setup, backward=_backward,
)  # fmt: skip
define(
    f"grouped_max_backward({_INPUT}, float eps, float slope, Tensor top, Tensor slot, Tensor moments, Tensor asked)"
    " -> (Tensor, Tensor, Tensor[], Tensor[])",
    cpu=_cpu_backward, fake=_fake_backward,
)  # fmt: skip


def grouped_max(
    rows: Rows, weights: Tensors, norms: Tensors, eps: float, activated: bool = True, slope: float = 0.0
) -> Tensor:
    """(G, C) maximum of each group, normalised with the mean and variance in ``norms``.

    Arguments as for :func:`reference`, with five ``norms`` a layer.

    Raises:
        CloudError: If shapes do not fit; on a CPU also if counts or neighbors are out of range.
        NotFiniteError: On a CPU, if features or positions are not finite.
    """
    check_form(rows, weights, norms, 5)
    return torch.ops.geo3d.grouped_max(*rows, list(weights), list(norms), eps, activated, slope)


def grouped_max_train(
    rows: Rows, weights: Tensors, norms: Tensors, eps: float, activated: bool = True, slope: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """(G, C) maximum of each group, normalised with the statistics of all rows, and these means and variances.

    Means and biased variances are those of the linear layers' outputs, concatenated over the layers. Arguments as for
    :func:`reference`, with three ``norms`` a layer.

    Raises:
        CloudError: If shapes do not fit; on a CPU also if counts or neighbors are out of range.
    """
    check_form(rows, weights, norms, 3)
    arguments = list(weights), list(norms), eps, activated, slope
    out, _, _, moments = torch.ops.geo3d.grouped_max_train(*rows, *arguments)
    mean, var, _ = moments.detach().split([sum(len(w) for w in weights)] * 2 + [weights[-1].shape[1]])
    return out, mean + torch.cat([n.detach() for n in norms[::3]]), var
