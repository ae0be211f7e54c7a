"""Norm, activation and maximum over the edges ``y_ij = a_i + b_j``, from the parts a and b, with explicit gradients.

M points, k neighbours j of each point i, C channels; ``ab (M, 2 C)`` holds ``[a | b]``. The scale of the norm is never
negative, because callers fold its signs into ``ab``. So the maximum of each channel is at its largest ``b_j``.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from geo3d.distributed import sum_over_processes, sums_over_processes
from geo3d.errors import CloudError
from geo3d.ops import native
from geo3d.ops.checks import check_device, check_indices
from geo3d.ops.dense.matrix import WIDTH, wide
from geo3d.ops.edge.gather import check_table, gather_max
from geo3d.ops.edge.moments import edge_moments
from geo3d.ops.join import Join, alone
from geo3d.ops.library import define


class Joined(NamedTuple):
    """What the forward pass saves for the backward pass, with channels padded to a multiple of ``WIDTH``."""

    out: Tensor
    mean: Tensor
    var: Tensor
    edges: Tensor
    top: Tensor
    total: Tensor
    slot: Tensor
    kept: Tensor


def joined(value: Tensor, sync: bool) -> Tensor:
    """The sum of the value over all processes if ``sync``, else the value itself."""
    return sum_over_processes(value) if sync else value


def compiled(neighbors: Tensor, *tensors: Tensor) -> bool:
    """Whether the kernels can run on these tensors; they store slots as bytes, which allows k up to 256."""
    return native.usable(*tensors) and neighbors.shape[1] <= 256


def collect(ab: Tensor, gamma: Tensor, beta: Tensor, neighbors: Tensor, eps: float, slope: float, sync: bool) -> Joined:
    """``max_j LeakyReLU(norm(a_i + b_j))`` by the kernels, its statistics, and what the backward pass needs.

    Args:
        ab: (M, 2 C) with C a multiple of ``WIDTH``.
        gamma: (C,) scale of the norm, not negative.
        beta: (C,) shift of the norm.
        neighbors: (M, k) neighbours.
        eps: Added to the variance.
        slope: Negative slope of the LeakyReLU.
        sync: Take the statistics over all processes.
    """
    (rows, k), width = neighbors.shape, ab.shape[1] // 2
    near = ab[:: max(1, rows // 256)].mean(0)  # sums are taken about this, to avoid cancellation
    top, total = ab.new_empty(rows, width), ab.new_empty(rows, width)
    slot = torch.empty(rows, width, dtype=torch.uint8)
    sums = torch.empty(2, width, dtype=torch.float64)
    native.call(
        "edge_collect",
        rows,
        k,
        width,
        ab,
        neighbors,
        near[:width],
        near[width:],
        top,
        total,
        slot,
        sums,
        what="neighbors",
    )
    middle = (near[:width] + near[width:]).double()
    count = joined(torch.tensor(float(rows * k), dtype=torch.float64), sync)
    mean = joined(sums[0] + rows * k * middle, sync) / count
    offset = mean - middle
    var = (joined(sums[1] - 2 * offset * sums[0] + rows * k * offset**2, sync) / count).clamp_min(0)
    rstd = torch.rsqrt(var + eps)
    scale = gamma.double() * rstd
    kept = torch.stack([mean, rstd, scale, beta.double() - mean * scale]).float()
    out = torch.empty_like(top)
    native.call("edge_activate", rows, width, top, kept[2], kept[3], float(slope), out)
    kept = torch.cat([kept[:3], near.view(2, width)])
    return Joined(out, mean.float(), var.float(), count.float(), top, total, slot, kept)


def spread(grad: Tensor, ab: Tensor, neighbors: Tensor, of: Joined, slope: float, sync: bool) -> tuple[Tensor, ...]:
    """(M, 2 C) gradient of ``ab``, (C,) of ``gamma`` and (C,) of ``beta``; ``grad`` and results have padded width."""
    (rows, width), k = of.top.shape, neighbors.shape[1]
    mean, rstd, scale, near_a, near_b = of.kept
    sums = torch.empty(2, width, dtype=torch.float64)
    native.call("edge_reduce", rows, width, grad, of.out, of.top, mean, float(slope), sums)
    grad_beta, sums[1] = sums[0].float(), sums[1] * rstd
    grad_gamma = sums[1].float()
    shared = joined(sums, sync) / of.edges.double()  # the means of dz and of dz times the normalised y, over all edges
    of_edges = torch.stack([scale * shared[0], scale * shared[1] * rstd]).float()
    grad_ab = torch.empty_like(ab)
    native.call(
        "edge_backward", rows, k, width, ab, neighbors, of.total, of.slot, grad, of.out, scale,
        of_edges[0], of_edges[1], mean - near_a - near_b, near_a, mean - near_a, float(slope), grad_ab,
        what="neighbors",
    )  # fmt: skip
    return grad_ab, grad_gamma, grad_beta


def edge_join_reference(
    a: Tensor,
    b: Tensor,
    exact: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    neighbors: Tensor,
    eps: float,
    slope: float,
    join: Join = alone,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The definition of :func:`edge_join` in differentiable torch operations."""
    mean, var, count = edge_moments(a, b, neighbors, join)
    scale = gamma * torch.rsqrt(var + eps)
    top = gather_max(b, neighbors) if exact is None else _gather_where(b, exact, neighbors)
    out = leaky_relu(torch.addcmul(beta - mean * scale, a + top, scale), slope)
    return out, mean.detach(), var.detach(), count.detach()


def _gather_where(b: Tensor, exact: Tensor, neighbors: Tensor) -> Tensor:
    """(M, C) ``b`` of the neighbour whose ``exact`` value is the largest."""
    slot = torch.ops.geo3d.gather_max(exact.detach().contiguous(), neighbors, True)[1]
    return b.gather(0, neighbors.gather(1, slot.long()))


def _full(ab: Tensor) -> Tensor:
    channels = ab.shape[1] // 2
    return ab.contiguous() if channels % WIDTH == 0 else torch.cat([wide(ab[:, :channels]), wide(ab[:, channels:])], 1)


@torch.no_grad()
def _forward(
    ab: Tensor, exact: Tensor, gamma: Tensor, beta: Tensor, neighbors: Tensor, eps: float, slope: float, sync: bool
) -> tuple[Tensor, ...]:
    channels, neighbors = len(gamma), neighbors.contiguous()
    if not compiled(neighbors, ab, gamma, beta, exact):
        check_indices("neighbors", neighbors, len(ab))
        join = sums_over_processes if sync else alone
        (a, b), where = ab.chunk(2, 1), exact if len(exact) else None
        results = edge_join_reference(a, b, where, gamma, beta, neighbors, eps, slope, join)
        return *results, *(ab.new_empty(0) for _ in range(4))
    of = collect(_full(ab), wide(gamma), wide(beta), neighbors, eps, slope, sync)
    if len(exact):  # rounded values may tie; the gradient goes where the exact value is largest
        (rows, k), full = neighbors.shape, wide(exact)
        native.call("gather_max", rows, k, full.shape[1], len(full), full, neighbors, of.total.new_empty(full.shape),
                    of.slot, what="neighbors")  # fmt: skip
    out = of.out if of.out.shape[1] == channels else of.out[:, :channels].contiguous()
    return out, of.mean[:channels].clone(), of.var[:channels].clone(), *of[3:]


def _shapes(
    ab: Tensor, exact: Tensor, gamma: Tensor, beta: Tensor, neighbors: Tensor, eps: float, slope: float, sync: bool
) -> tuple[Tensor, ...]:
    channels, rows = len(gamma), ab.shape[0]
    results = (
        gamma.new_empty(rows, channels),
        gamma.new_empty(channels),
        gamma.new_empty(channels),
        gamma.new_empty(()),
    )
    if not compiled(neighbors, ab, gamma, beta, exact):
        return *results, *(ab.new_empty(0) for _ in range(4))
    width = channels + -channels % WIDTH
    top = ab.new_empty(rows, width)
    return *results, top, torch.empty_like(top), torch.empty_like(top, dtype=torch.uint8), ab.new_empty(5, width)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ab, exact, gamma, beta, neighbors, ctx.eps, ctx.slope, ctx.sync = inputs
    ctx.save_for_backward(ab, exact, gamma, beta, neighbors, *output)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8
    grads = torch.ops.geo3d.edge_join_backward(grad, *ctx.saved_tensors, float(ctx.eps), float(ctx.slope), ctx.sync)
    return grads[0], None, grads[1], grads[2], None, None, None, None


@torch.no_grad()
def _gradients(
    grad: Tensor, ab: Tensor, exact: Tensor, gamma: Tensor, beta: Tensor, neighbors: Tensor,
    out: Tensor, mean: Tensor, var: Tensor, count: Tensor, top: Tensor, total: Tensor, slot: Tensor, kept: Tensor,
    eps: float, slope: float, sync: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    if top.numel() == 0:  # the forward pass ran the reference
        join = sums_over_processes if sync else alone
        with torch.enable_grad():
            ab, gamma, beta = leaves = [t.detach().requires_grad_() for t in (ab, gamma, beta)]
            (a, b), where = ab.chunk(2, 1), exact if len(exact) else None
            again = edge_join_reference(a, b, where, gamma, beta, neighbors, eps, slope, join)[0]
            return torch.autograd.grad(again, leaves, grad)
    channels, width = len(gamma), top.shape[1]
    of = Joined(wide(out), mean, var, count, top, total, slot, kept)
    grad_ab, grad_gamma, grad_beta = spread(wide(grad), _full(ab), neighbors.contiguous(), of, slope, sync)
    if width != channels:
        grad_ab = torch.cat([grad_ab[:, :channels], grad_ab[:, width : width + channels]], 1)
    return grad_ab, grad_gamma[:channels].clone(), grad_beta[:channels].clone()


define(
    "edge_join_backward(Tensor grad, Tensor ab, Tensor exact, Tensor gamma, Tensor beta, Tensor neighbors, Tensor out, "
    "Tensor mean, Tensor var, Tensor count, Tensor top, Tensor total, Tensor slot, Tensor kept, float eps, "
    "float slope, bool sync) -> (Tensor, Tensor, Tensor)",
    cpu=_gradients,
    fake=lambda grad, ab, exact, gamma, beta, *_: tuple(torch.empty_like(t) for t in (ab, gamma, beta)),
)
_edge_join = define(
    "edge_join(Tensor ab, Tensor exact, Tensor gamma, Tensor beta, Tensor neighbors, float eps, float slope, "
    "bool sync) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    cpu=_forward,
    fake=_shapes,
    backward=_backward,
    setup=_keep,
)


def edge_join(
    ab: Tensor,
    exact: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    neighbors: Tensor,
    eps: float = 1e-5,
    slope: float = 0.2,
    sync: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(M, C) ``max_j LeakyReLU(BatchNorm(a_i + b_j))``, normalised over all M * k edges, and their mean, var and count.

    Differentiable in ``ab``, ``gamma`` and ``beta``. Once b is rounded, several neighbours may share the maximum. The
    gradient then goes to the one whose ``exact`` value is the largest, as it does without rounding.

    Args:
        ab: (M, 2 C) parts of the points and of the neighbours.
        exact: (M, C) b before it was rounded; None if it is not rounded.
        gamma: (C,) scale of the norm, not negative: signs are folded into ``ab``.
        beta: (C,) shift of the norm.
        neighbors: (M, k) flat indices of the neighbours.
        eps: Added to the variance.
        slope: Negative slope of the LeakyReLU, from 0 to 1.
        sync: Take the statistics over the edges of all processes.

    Raises:
        CloudError: If shapes do not fit, or (on a CPU) ``neighbors`` holds an index out of range.
    """
    check_table(neighbors, ab)
    check_device("an edge convolution's input", ab, exact, gamma, beta, neighbors)
    expected = (neighbors.shape[0], 2 * len(gamma))
    fits = tuple(ab.shape) == expected and gamma.dim() == 1 and gamma.shape == beta.shape
    if not fits or (exact is not None and exact.shape != (len(ab), len(gamma))):
        raise CloudError(
            f"the parts of edges must be {expected} for these neighbors and this norm, beta must be like gamma, and "
            f"exact {(len(ab), len(gamma))}; found {tuple(ab.shape)}, {tuple(beta.shape)} and "
            f"{None if exact is None else tuple(exact.shape)}"
        )
    where = ab.new_empty(0) if exact is None else exact.detach()
    return _edge_join(ab, where, gamma, beta, neighbors, float(eps), float(slope), sync)[:4]
