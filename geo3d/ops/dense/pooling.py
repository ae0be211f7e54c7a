"""The layer before a global pooling: linear, norm and LeakyReLU on points, then maximum and mean over each cloud.

M points, B clouds, C channels. Of the tensors (M, C) the compiled kernels save only ``h = x W^T``; the backward pass
computes the gradient of h for some rows at a time.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, pad

from geo3d.cloud import Layout
from geo3d.distributed import sums_over_processes
from geo3d.errors import CloudError
from geo3d.ops import native
from geo3d.ops.checks import check_device, check_form_of_offsets, check_offsets
from geo3d.ops.dense.matrix import WIDTH, wide
from geo3d.ops.join import Join, alone
from geo3d.ops.library import define


def max_and_mean(x: Tensor, layout: Layout) -> Tensor:
    """(B, 2 C) maximum and mean over the points of each cloud, differentiable.

    Args:
        x: (M, C) features.
        layout: Which row belongs to which cloud.

    Raises:
        CloudError: If offsets do not rise from 0 to M (on a CPU).

    Example:
        >>> max_and_mean(torch.tensor([[1.0], [3.0], [5.0]]), Layout(torch.tensor([0, 2, 3]))).tolist()
        [[3.0, 2.0], [5.0, 5.0]]
    """
    ptr, num_points = layout
    check_form_of_offsets("ptr", ptr)
    check_device("x and ptr", x, ptr)
    check_offsets("ptr", ptr, len(x))
    clouds = len(ptr) - 1
    if num_points is not None:
        x = x.view(clouds, num_points, -1)
        return torch.cat([x.max(1).values, x.mean(1)], 1)
    sizes = ptr.diff()
    cloud = torch.arange(clouds, device=x.device).repeat_interleave(sizes, output_size=len(x))
    empty = x.new_zeros(clouds, x.shape[1])
    largest = empty.scatter_reduce(0, cloud[:, None].expand_as(x), x, "amax", include_self=False)
    return torch.cat([largest, empty.index_add(0, cloud, x) / sizes[:, None].to(x.dtype)], 1)


def _moments(h: Tensor, join: Join) -> tuple[Tensor, Tensor, Tensor]:
    count, total = join(h.new_tensor(float(len(h))), h.sum(0))
    mean = total / count
    (squares,) = join(((h - mean) ** 2).sum(0))
    return mean, squares / count, count


def norm_pool_reference(
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    ptr: Tensor,
    eps: float,
    slope: float,
    join: Join = alone,
    num_points: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The definition of :func:`norm_pool` in differentiable torch operations."""
    h = torch.nn.functional.linear(x, weight).to(gamma.dtype)
    mean, var, count = _moments(h, join)
    scale = gamma * torch.rsqrt(var + eps)
    z = torch.addcmul(beta - mean * scale, h, scale)
    pooled = max_and_mean(leaky_relu(z, slope), Layout(ptr, num_points))
    return pooled, mean.detach(), var.detach(), count.detach()


def _check(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, ptr: Tensor) -> None:
    fits = x.dim() == 2 and tuple(weight.shape) == (scale.shape[0], x.shape[1]) and scale.shape == shift.shape
    check_device("the input of a pooling", x, weight, scale, shift, ptr)
    if not fits or ptr.dim() != 1 or ptr.shape[0] < 2 or ptr.dtype != torch.int64:
        raise CloudError(
            "pooling needs x (M, channels), weight (C, channels), two vectors (C,) and int64 offsets (B + 1,); found "
            f"{', '.join(str(tuple(t.shape)) for t in (x, weight, scale, shift, ptr))} and {ptr.dtype}"
        )


def _narrow(pooled: Tensor, channels: int) -> Tensor:
    width = pooled.shape[1] // 2
    return pooled if width == channels else torch.cat([pooled[:, :channels], pooled[:, width : width + channels]], 1)


@torch.no_grad()
def _train(
    x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, ptr: Tensor, eps: float, slope: float, sync: bool
) -> tuple[Tensor, ...]:
    join = sums_over_processes if sync else alone
    if not native.usable(x, weight, gamma, beta):
        check_offsets("ptr", ptr, len(x))
        results = norm_pool_reference(x, weight, gamma, beta, ptr, eps, slope, join)
        return *results, *(x.new_empty(0) for _ in range(3))
    channels, rows, clouds, ptr = len(gamma), len(x), len(ptr) - 1, ptr.contiguous()
    x, full = x.contiguous(), pad(weight, (0, 0, 0, -channels % WIDTH)).contiguous()
    near = torch.mv(full, x[:: max(1, rows // 256)].mean(0))  # sums are taken about this, to avoid cancellation
    h, sums = x.new_empty(rows, len(full)), torch.empty(2, len(full), dtype=torch.float64)
    native.call("linear_sums", rows, len(full), x.shape[1], x, full, near, h, sums)
    count, total = join(torch.tensor(float(rows), dtype=torch.float64), sums[0] + rows * near.double())
    mean = total / count
    offset = mean - near
    (squares,) = join(sums[1] - 2 * offset * sums[0] + rows * offset**2)
    var = (squares / count).clamp_min(0)
    rstd = torch.rsqrt(var + eps)
    scale = wide(gamma).double() * rstd
    kept = torch.stack([mean, rstd, scale, wide(beta).double() - mean * scale]).float()
    pooled, winner = h.new_empty(clouds, 2 * h.shape[1]), ptr.new_empty(clouds, h.shape[1])
    native.call("pool", rows, h.shape[1], clouds, ptr, h, kept[2], kept[3], float(slope), pooled, winner, what="ptr")
    mean, var = mean[:channels].float(), var[:channels].float()
    return _narrow(pooled, channels), mean, var, count.float(), h, winner, kept


def _shapes(
    x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, ptr: Tensor, eps: float, slope: float, sync: bool
) -> tuple[Tensor, ...]:
    channels, clouds = len(gamma), ptr.shape[0] - 1
    results = gamma.new_empty(clouds, 2 * channels), torch.empty_like(gamma), torch.empty_like(gamma)
    if not native.usable(x, weight, gamma, beta):
        return *results, gamma.new_empty(()), *(x.new_empty(0) for _ in range(3))
    width = channels + -channels % WIDTH
    kept = x.new_empty(4, width)
    return *results, gamma.new_empty(()), x.new_empty(x.shape[0], width), ptr.new_empty(clouds, width), kept


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, gamma, beta, ptr, ctx.eps, ctx.slope, ctx.sync = inputs
    ctx.save_for_backward(x, weight, gamma, beta, ptr, *output[3:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8
    grads = torch.ops.geo3d.norm_pool_backward(grad, *ctx.saved_tensors, float(ctx.eps), float(ctx.slope), ctx.sync)
    return *grads, None, None, None, None


@torch.no_grad()
def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, ptr: Tensor, count: Tensor,
    h: Tensor, winner: Tensor, kept: Tensor, eps: float, slope: float, sync: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    join = sums_over_processes if sync else alone
    if h.numel() == 0:  # the forward pass ran the reference
        with torch.enable_grad():
            x, weight, gamma, beta = leaves = [t.detach().requires_grad_() for t in (x, weight, gamma, beta)]
            out = norm_pool_reference(x, weight, gamma, beta, ptr, eps, slope, join)[0]
            return torch.autograd.grad(out, leaves, grad)
    x, ptr, channels, (rows, width) = x.contiguous(), ptr.contiguous(), len(gamma), h.shape
    clouds, depth = len(ptr) - 1, x.shape[1]
    mean, rstd, scale, shift = kept
    grad = wide(grad.view(clouds, 2, channels)).view(clouds, 2 * width)
    cloud = torch.arange(clouds).repeat_interleave(ptr.diff(), output_size=rows)
    sums = torch.empty(2, width, dtype=torch.float64)
    arrays = (ptr, cloud, winner, h, grad, scale, shift, mean)
    native.call("pool_reduce", rows, width, clouds, *arrays, float(slope), sums)
    grad_beta, sums[1] = sums[0, :channels].float(), sums[1] * rstd
    grad_gamma = sums[1, :channels].float()
    (shared,) = join(sums)
    shared = shared / count.double()
    first, second = shared[0].float(), (shared[1] * rstd).float()
    grad_x, grad_weight = torch.empty_like(x), x.new_empty(width, depth)
    native.call(
        "pool_backward", rows, width, depth, *arrays, first, second, float(slope), x,
        pad(weight, (0, 0, 0, width - channels)).contiguous(), grad_x, grad_weight,
    )  # fmt: skip
    return grad_x, grad_weight if width == channels else grad_weight[:channels].contiguous(), grad_gamma, grad_beta


define(
    "norm_pool_backward(Tensor grad, Tensor x, Tensor weight, Tensor gamma, Tensor beta, Tensor ptr, Tensor count, "
    "Tensor h, Tensor winner, Tensor kept, float eps, float slope, bool sync) -> (Tensor, Tensor, Tensor, Tensor)",
    cpu=_gradients,
    fake=lambda grad, x, weight, gamma, beta, *_: tuple(torch.empty_like(t) for t in (x, weight, gamma, beta)),
)
_norm_pool = define(
    "norm_pool(Tensor x, Tensor weight, Tensor gamma, Tensor beta, Tensor ptr, float eps, float slope, bool sync) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    cpu=_train,
    fake=_shapes,
    backward=_backward,
    setup=_keep,
)


def norm_pool(
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    ptr: Tensor,
    eps: float = 1e-5,
    slope: float = 0.2,
    sync: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(B, 2 C) maximum and mean of ``LeakyReLU(BatchNorm(x W^T))`` over each cloud, and mean, var, count of its norm.

    Differentiable in ``x``, ``weight``, ``gamma`` and ``beta``. The mean (C,), biased variance (C,) and count () are
    for running statistics.

    Args:
        x: (M, channels) features.
        weight: (C, channels).
        gamma: (C,) scale of the norm.
        beta: (C,) shift of the norm.
        ptr: (B + 1,) offsets of the clouds.
        eps: Added to the variance.
        slope: Negative slope of the LeakyReLU.
        sync: Take the statistics over the rows of all processes.
    """
    _check(x, weight, gamma, beta, ptr)
    return _norm_pool(x, weight, gamma, beta, ptr, float(eps), float(slope), sync)[:4]


@torch.no_grad()
def _evaluate(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, ptr: Tensor, slope: float) -> Tensor:
    if not native.usable(x, weight, scale, shift):
        check_offsets("ptr", ptr, len(x))
        h = torch.nn.functional.linear(x, weight).to(scale.dtype)
        return max_and_mean(leaky_relu(torch.addcmul(shift, h, scale), slope), Layout(ptr))
    channels, (rows, depth), clouds = len(scale), x.shape, len(ptr) - 1
    width = channels + -channels % WIDTH
    pooled = x.new_empty(clouds, 2 * width)
    native.call(
        "linear_pool", rows, width, depth, clouds, ptr.contiguous(), x.contiguous(),
        pad(weight, (0, 0, 0, width - channels)).contiguous(), wide(scale), wide(shift), float(slope), pooled,
        what="ptr",
    )  # fmt: skip
    return _narrow(pooled, channels)


_linear_pool = define(
    "linear_pool(Tensor x, Tensor weight, Tensor scale, Tensor shift, Tensor ptr, float slope) -> Tensor",
    cpu=_evaluate,
    fake=lambda x, weight, scale, shift, ptr, slope: scale.new_empty(ptr.shape[0] - 1, 2 * scale.shape[0]),
)


def linear_pool(x: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, ptr: Tensor, slope: float) -> Tensor:
    """(B, 2 C) maximum and mean of ``LeakyReLU(scale * x W^T + shift)`` over each cloud; no gradients.

    Args:
        x: (M, channels) features.
        weight: (C, channels).
        scale: (C,) of any sign.
        shift: (C,).
        ptr: (B + 1,) offsets of the clouds.
        slope: Negative slope of the LeakyReLU.
    """
    _check(x, weight, scale, shift, ptr)
    return _linear_pool(x, weight, scale, shift, ptr, float(slope))
