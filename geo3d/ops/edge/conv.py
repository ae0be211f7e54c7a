"""One-layer edge convolution with its norm, activation and maximum, as one operator in training and one in evaluation.

``y_ij = W [x_j - x_i ; x_i] = a_i + b_j`` over the neighbours j of each point i; M points, k neighbours, C channels.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, pad

from geo3d.distributed import sums_over_processes
from geo3d.errors import CloudError
from geo3d.ops import native
from geo3d.ops.checks import check_device, check_indices
from geo3d.ops.dense.matrix import WIDTH, linear, multiply, outer, signs, wide
from geo3d.ops.edge.gather import check_table, gather_max
from geo3d.ops.edge.join import Joined, collect, compiled, spread
from geo3d.ops.edge.moments import edge_moments
from geo3d.ops.join import Join, alone
from geo3d.ops.library import define


def factored(weight: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of a and of b with the signs of ``gamma`` folded in, and these signs.

    Rows with a negative scale change sign, so that every channel needs the largest value.
    """
    sign = signs(gamma)
    difference, center = (weight * sign[:, None]).chunk(2, 1)
    return center - difference, difference, sign


def center_and_neighbor_weights(weight: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """[Wc ; Wd] with the signs of ``gamma`` folded in, and these signs; weight quantisation rounds this matrix.

    With c = Wc x and b = Wd x the parts of an edge are ``a_i = c_i - b_i`` and ``b_j``, without another product. The
    error of a rounded Wd is then multiplied by ``x_j - x_i``, which is small where neighbours are near. Rounding
    ``Wc - Wd`` and Wd separately would leave an error in proportion to x.
    """
    sign = signs(gamma)
    difference, center = (weight * sign[:, None]).chunk(2, 1)
    return torch.cat([center, difference]), sign


def edge_conv_reference(
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    neighbors: Tensor,
    eps: float,
    slope: float,
    join: Join = alone,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The definition of :func:`edge_conv` in differentiable torch operations."""
    of_center, of_neighbor, sign = factored(weight, gamma)
    a, b = torch.nn.functional.linear(x, of_center), torch.nn.functional.linear(x, of_neighbor)
    a, b = a.to(gamma.dtype), b.to(gamma.dtype)  # only the products may be in half precision
    mean, var, count = edge_moments(a, b, neighbors, join)
    scale = gamma * sign * torch.rsqrt(var + eps)
    out = leaky_relu(torch.addcmul(beta - mean * scale, a + gather_max(b, neighbors), scale), slope)
    return out, (mean * sign).detach(), var.detach(), count.detach()


def _check(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, neighbors: Tensor) -> None:
    check_table(neighbors, x)
    check_device("an edge convolution's input", x, weight, scale, shift, neighbors)
    expected = (x.shape[0], (scale.shape[0], 2 * x.shape[1]), scale.shape)
    if (neighbors.shape[0], tuple(weight.shape), shift.shape) != expected:
        raise CloudError(
            "an edge convolution needs x (M, channels), weight (C, 2 channels), two vectors (C,) and neighbors (M, k); "
            f"found {', '.join(str(tuple(t.shape)) for t in (x, weight, scale, shift, neighbors))}"
        )


def _parts(weight: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """[W_a ; W_b], each zero-padded to a multiple of ``WIDTH`` rows, and the signs."""
    of_center, of_neighbor, sign = factored(weight, gamma)
    missing = (0, 0, 0, -len(gamma) % WIDTH)
    return torch.cat([pad(of_center, missing), pad(of_neighbor, missing)]), sign


@torch.no_grad()
def _train(
    x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, neighbors: Tensor, eps: float, slope: float, sync: bool
) -> tuple[Tensor, ...]:
    if not compiled(neighbors, x, weight, gamma, beta):
        check_indices("neighbors", neighbors, len(x))
        join = sums_over_processes if sync else alone
        results = edge_conv_reference(x, weight, gamma, beta, neighbors, eps, slope, join)
        return *results, *(x.new_empty(0) for _ in range(4))
    x, neighbors = x.contiguous(), neighbors.contiguous()
    factor, sign = _parts(weight, gamma)
    of = collect(linear(x, factor), wide(gamma * sign), wide(beta), neighbors, eps, slope, sync)
    channels = len(gamma)
    out = of.out if of.out.shape[1] == channels else of.out[:, :channels].contiguous()
    return out, of.mean[:channels] * sign, of.var[:channels].clone(), *of[3:]


def _shapes(
    x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, neighbors: Tensor, eps: float, slope: float, sync: bool
) -> tuple[Tensor, ...]:
    channels = len(gamma)
    out = gamma.new_empty(x.shape[0], channels)
    statistics = gamma.new_empty(channels), gamma.new_empty(channels), gamma.new_empty(())
    if not compiled(neighbors, x, weight, gamma, beta):
        return out, *statistics, *(x.new_empty(0) for _ in range(4))
    width = channels + -channels % WIDTH
    top = x.new_empty(x.shape[0], width)
    slot = torch.empty_like(top, dtype=torch.uint8)
    return out, *statistics, top, torch.empty_like(top), slot, x.new_empty(5, width)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, gamma, beta, neighbors, ctx.eps, ctx.slope, ctx.sync = inputs
    out, mean, var, count, *kept = output
    ctx.save_for_backward(x, weight, gamma, beta, neighbors, out, count, *kept)
    ctx.mark_non_differentiable(mean, var, count, *kept)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8
    wants_x = ctx.needs_input_grad[0]
    grads = torch.ops.geo3d.edge_conv_backward(
        grad, *ctx.saved_tensors, float(ctx.eps), float(ctx.slope), ctx.sync, wants_x
    )
    return grads[0] if wants_x else None, *grads[1:], None, None, None, None


@torch.no_grad()
def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, neighbors: Tensor, out: Tensor, count: Tensor,
    top: Tensor, total: Tensor, slot: Tensor, kept: Tensor,
    eps: float, slope: float, sync: bool, wants_x: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    if top.numel() == 0:  # the forward pass ran the reference
        return _reference_gradients(
            grad, x, weight, gamma, beta, neighbors, eps, slope, sums_over_processes if sync else alone
        )
    x, neighbors = x.contiguous(), neighbors.contiguous()
    channels, width = len(gamma), top.shape[1]
    factor, sign = _parts(weight, gamma)
    of = Joined(wide(out), kept[0], kept[0], count, top, total, slot, kept)
    ab = linear(x, factor)  # computed again: it would be a quarter of what a step saves
    grad_ab, grad_gamma, grad_beta = spread(wide(grad), ab, neighbors, of, slope, sync)
    of_factor = outer(grad_ab, x)
    of_center, of_neighbor = of_factor[:channels], of_factor[width : width + channels]
    grad_weight = torch.cat([of_neighbor - of_center, of_center], 1) * sign[:, None]
    grad_x = multiply(grad_ab, factor) if wants_x else x.new_empty(0)
    return grad_x, grad_weight, grad_gamma[:channels] * sign, grad_beta[:channels].clone()


def _reference_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, neighbors: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        x, weight, gamma, beta = leaves = [t.detach().requires_grad_() for t in (x, weight, gamma, beta)]
        out = edge_conv_reference(x, weight, gamma, beta, neighbors, *rest)[0]
        return torch.autograd.grad(out, leaves, grad)


define(
    "edge_conv_backward(Tensor grad, Tensor x, Tensor weight, Tensor gamma, Tensor beta, Tensor neighbors, Tensor out, "
    "Tensor count, Tensor top, Tensor total, Tensor slot, Tensor kept, float eps, float slope, bool sync, "
    "bool wants_x) -> (Tensor, Tensor, Tensor, Tensor)",
    cpu=_gradients,
    fake=lambda grad, x, weight, gamma, beta, *rest: (
        torch.empty_like(x) if rest[-1] or rest[3].numel() == 0 else x.new_empty(0),
        torch.empty_like(weight), torch.empty_like(gamma), torch.empty_like(beta),
    ),
)  # fmt: skip
_edge_conv = define(
    "edge_conv(Tensor x, Tensor weight, Tensor gamma, Tensor beta, Tensor neighbors, float eps, float slope, "
    "bool sync) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    cpu=_train,
    fake=_shapes,
    backward=_backward,
    setup=_keep,
)


def edge_conv(
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    neighbors: Tensor,
    eps: float = 1e-5,
    slope: float = 0.2,
    sync: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(M, C) ``max_j LeakyReLU(BatchNorm(y_ij))``, normalised over all M * k edges, and their mean, var and count.

    Differentiable in ``x``, ``weight``, ``gamma`` and ``beta``. The mean (C,), biased variance (C,) and count () are
    for running statistics.

    Args:
        x: (M, channels) features.
        weight: (C, 2 * channels), the columns of ``x_j - x_i`` first.
        gamma: (C,) scale of the norm.
        beta: (C,) shift of the norm.
        neighbors: (M, k) flat indices of the neighbours.
        eps: Added to the variance.
        slope: Negative slope of the LeakyReLU, from 0 to 1.
        sync: Take the statistics over the edges of all processes.

    Raises:
        CloudError: If shapes do not fit, or (on a CPU) ``neighbors`` holds an index out of range.
    """
    _check(x, weight, gamma, beta, neighbors)
    return _edge_conv(x, weight, gamma, beta, neighbors, float(eps), float(slope), sync)[:4]


def edge_conv_given(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, neighbors: Tensor, slope: float) -> Tensor:
    """The definition of :func:`edge_conv_fixed` in differentiable torch operations."""
    of_center, of_neighbor, sign = factored(weight, scale)
    a, b = torch.nn.functional.linear(x, of_center), torch.nn.functional.linear(x, of_neighbor)
    a, b = a.to(scale.dtype), b.to(scale.dtype)  # only the products may be in half precision
    return leaky_relu(torch.addcmul(shift, a + gather_max(b, neighbors), scale * sign), slope)


@torch.no_grad()
def _evaluate(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, neighbors: Tensor, slope: float) -> Tensor:
    if not native.usable(x, weight, scale, shift):
        check_indices("neighbors", neighbors, len(x))
        return edge_conv_given(x, weight, scale, shift, neighbors, slope)
    neighbors = neighbors.contiguous()
    factor, sign = _parts(weight, scale)
    (rows, k), width = neighbors.shape, len(factor) // 2
    out = x.new_empty(rows, width)
    native.call(
        "edge_evaluate", rows, k, width, linear(x.contiguous(), factor), neighbors, wide(scale * sign), wide(shift),
        float(slope), out, width, what="neighbors",
    )  # fmt: skip
    return out if width == len(scale) else out[:, : len(scale)].contiguous()


_edge_conv_fixed = define(
    "edge_conv_fixed(Tensor x, Tensor weight, Tensor scale, Tensor shift, Tensor neighbors, float slope) -> Tensor",
    cpu=_evaluate,
    fake=lambda x, weight, scale, shift, neighbors, slope: scale.new_empty(x.shape[0], scale.shape[0]),
)


def edge_conv_fixed(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, neighbors: Tensor, slope: float) -> Tensor:
    """(M, C) ``max_j LeakyReLU(scale * y_ij + shift)``: the edge convolution with known statistics; no gradients.

    Args:
        x: (M, channels) features.
        weight: (C, 2 * channels), the columns of ``x_j - x_i`` first.
        scale: (C,) of any sign.
        shift: (C,).
        neighbors: (M, k) flat indices of the neighbours.
        slope: Negative slope of the LeakyReLU, from 0 to 1.

    Raises:
        CloudError: If shapes do not fit, or (on a CPU) ``neighbors`` holds an index out of range.
    """
    _check(x, weight, scale, shift, neighbors)
    return _edge_conv_fixed(x, weight, scale, shift, neighbors, float(slope))
