"""Sums over windows of channels: the pooling before the small matrix of a structured layer.

M rows, P channels in, R windows out, each over ``P - R + 1`` consecutive channels (arXiv 2008.02454, for the case of
matrix products).
"""

from typing import Any

import torch
from torch import Tensor

from geo3d.errors import CloudError
from geo3d.ops import native
from geo3d.ops.checks import check_device, check_permutation
from geo3d.ops.library import define


def _differences(x: Tensor, length: int) -> Tensor:
    """Sums over windows as differences of running sums, in float64: float32 would lose most digits."""
    ends = torch.nn.functional.pad(x.double().cumsum(1), (1, 0))
    return ends[:, length:] - ends[:, :-length]


def _sums(x: Tensor, rank: int, order: Tensor | None, scale: float) -> Tensor:
    """The definition of ``geo3d::sliding_sum``."""
    taken = x if order is None else x.index_select(1, order)
    return (_differences(taken, x.shape[1] - rank + 1) * scale).to(x.dtype)


def _sums_on_cpu(x: Tensor, rank: int, order: Tensor | None, scale: float) -> Tensor:
    if not native.usable(x):
        if order is not None:
            check_permutation("order", order)
        return _sums(x, rank, order, scale)
    x, out = x.contiguous(), x.new_empty(len(x), rank)
    order = None if order is None else order.contiguous()
    native.call("sliding_sum", *x.shape, rank, x, order, float(scale), out, what="order")
    return out


def _spread(grad: Tensor, channels: int, order: Tensor | None, scale: float) -> Tensor:
    """The definition of ``geo3d::sliding_spread``, the transpose of ``geo3d::sliding_sum``."""
    margin = channels - grad.shape[1]
    back = _differences(torch.nn.functional.pad(grad, (margin, margin)), margin + 1) * scale
    back = back.to(grad.dtype)
    return back if order is None else torch.empty_like(back).index_copy(1, order, back)


def _spread_on_cpu(grad: Tensor, channels: int, order: Tensor | None, scale: float) -> Tensor:
    if not native.usable(grad):
        if order is not None:
            check_permutation("order", order)
        return _spread(grad, channels, order, scale)
    grad, out = grad.contiguous(), grad.new_empty(len(grad), channels)
    order = None if order is None else order.contiguous()
    native.call("sliding_spread", len(grad), channels, grad.shape[1], grad, order, float(scale), out, what="order")
    return out


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    given, ctx.size, order, ctx.scale = inputs
    ctx.save_for_backward(order)
    ctx.before = given.shape[1]


def _backward_of_sums(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return torch.ops.geo3d.sliding_spread(grad, ctx.before, ctx.saved_tensors[0], ctx.scale), None, None, None


def _backward_of_spread(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return torch.ops.geo3d.sliding_sum(grad, ctx.before, ctx.saved_tensors[0], ctx.scale), None, None, None


_sliding_sum = define(
    "sliding_sum(Tensor x, int rank, Tensor? order, float scale) -> Tensor",
    cpu=_sums_on_cpu,
    cuda=_sums,
    fake=lambda x, rank, order, scale: x.new_empty(x.shape[0], rank),
    backward=_backward_of_sums,
    setup=_keep,
)
define(
    "sliding_spread(Tensor grad, int channels, Tensor? order, float scale) -> Tensor",
    cpu=_spread_on_cpu,
    cuda=_spread,
    fake=lambda grad, channels, order, scale: grad.new_empty(grad.shape[0], channels),
    backward=_backward_of_spread,
    setup=_keep,
)


def sliding_sum(x: Tensor, rank: int, order: Tensor | None = None, scale: float = 1.0) -> Tensor:
    """(M, rank) sums over the windows of ``P - rank + 1`` consecutive channels, differentiable (twice too).

    ``out[:, r] = scale * (x[:, order[r]] + ... + x[:, order[r + P - rank]])``. The compiled form never subtracts, so
    that single precision loses no digits; the reference takes differences of running sums in double precision.

    Args:
        x: (M, P) floating point.
        rank: How many windows, from 1 (the sum of all channels) to P (the channels themselves).
        order: (P,) a permutation of the channels, int64; None takes them as they are.
        scale: Factor of all sums.

    Raises:
        CloudError: If shapes or types do not fit, or (on a CPU) if ``order`` is not a permutation.

    Example:
        >>> sliding_sum(torch.tensor([[1.0, 2.0, 4.0, 8.0]]), 2).tolist()
        [[7.0, 14.0]]
    """
    if x.dim() != 2 or not x.is_floating_point() or not 1 <= rank <= x.shape[1]:
        raise CloudError(
            "sliding_sum takes a matrix (M, P) of floats and a rank from 1 to P; found "
            f"{tuple(x.shape)} of {x.dtype} and rank {rank}"
        )
    check_device("x and order", x, order)
    if order is not None and (order.shape != x.shape[1:] or order.dtype != torch.int64):
        raise CloudError(
            f"order must be a permutation ({x.shape[1]},) of int64; found {tuple(order.shape)} of {order.dtype}"
        )
    return _sliding_sum(x, rank, order, scale)
