"""Maxima and sums over the neighbours of points, and their gradients, without any tensor of size M x k x C.

M points, k neighbours, C channels, ``neighbors (M, k)`` of flat indices.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from geo3d.errors import CloudError
from geo3d.ops import native, triton
from geo3d.ops.checks import check_device, check_indices
from geo3d.ops.library import define
from geo3d.ops.search.knn import degree

BLOCK = 1 << 16
"""Elements in a block of rows; a few such blocks stay in a CPU's second-level cache."""


def blocks(x: Tensor) -> list[slice]:
    """Slices that together cover the rows of ``x``; only one on a GPU."""
    rows, channels = x.shape
    step = max(1, BLOCK // max(1, channels)) if x.device.type == "cpu" else max(1, rows)
    return [slice(start, start + step) for start in range(0, rows, step)]


def _best(b: Tensor, neighbors: Tensor, wants_slot: bool) -> tuple[Tensor, Tensor]:
    """The definition of ``geo3d::gather_max``: (M, C) maxima and, if wanted, (M, C) which of the k neighbours has each.

    Of equally large neighbours it is the first.
    """
    columns = neighbors.t().contiguous()
    k, rows = columns.shape
    best = b.new_empty(rows, b.shape[1])
    slot = b.new_empty(best.shape if wants_slot else 0, dtype=_slot_type(k))
    number = torch.arange(k, dtype=b.dtype, device=b.device)
    for block in blocks(best):
        top = best[block]
        torch.index_select(b, 0, columns[0, block], out=top)
        other, greater, last = torch.empty_like(top), torch.empty_like(top), torch.zeros_like(top)
        for j in range(1, k):
            torch.index_select(b, 0, columns[j, block], out=other)
            if wants_slot:  # 0 or 1 as floats: far faster than booleans and torch.where
                torch.gt(other, top, out=greater)
                last.lerp_(number[j].expand_as(last), greater)
            torch.maximum(top, other, out=top)
        if wants_slot:
            slot[block] = last
    return best, slot


def _slot_type(k: int) -> torch.dtype:
    return torch.uint8 if k <= 256 else torch.int32


def _best_on_cpu(b: Tensor, neighbors: Tensor, wants_slot: bool) -> tuple[Tensor, Tensor]:
    (rows, k), channels = neighbors.shape, b.shape[1]
    if not native.usable(b) or k > 256:
        check_indices("neighbors", neighbors, len(b))
        return _best(b, neighbors, wants_slot)
    b, neighbors = b.contiguous(), neighbors.contiguous()
    best = b.new_empty(rows, channels)
    slot = torch.empty(best.shape if wants_slot else 0, dtype=torch.uint8)
    native.call(
        "gather_max", rows, k, channels, len(b), b, neighbors, best, slot if wants_slot else None, what="neighbors"
    )
    return best, slot


def _best_on_gpu(b: Tensor, neighbors: Tensor, wants_slot: bool) -> tuple[Tensor, Tensor]:
    if b.dtype != torch.float32 or not triton.available():
        return _best(b, neighbors, wants_slot)
    from geo3d.ops.triton.edge import gather_max

    best, slot, _ = gather_max(b.contiguous(), neighbors.contiguous(), wants_slot=wants_slot, wants_sum=False)
    return best, b.new_empty(0, dtype=_slot_type(neighbors.shape[1])) if slot is None else slot


def _sent_back(grad: Tensor, slot: Tensor, neighbors: Tensor, rows: int) -> Tensor:
    """The definition of ``geo3d::scatter_max``: (rows, C) each row's sum of the gradients of the maxima it provided."""
    back = grad.new_zeros(rows, grad.shape[1])
    for block in blocks(grad):
        back.scatter_add_(0, neighbors[block].gather(1, slot[block].long()), grad[block])
    return back


def _sent_back_on_cpu(grad: Tensor, slot: Tensor, neighbors: Tensor, rows: int) -> Tensor:
    if not native.usable(grad) or slot.dtype != torch.uint8:
        check_indices("neighbors", neighbors, rows)
        check_indices("neighbors", slot, neighbors.shape[1])
        return _sent_back(grad, slot, neighbors, rows)
    grad, back = grad.contiguous(), grad.new_empty(rows, grad.shape[1])
    slot, neighbors = slot.contiguous(), neighbors.contiguous()
    native.call("scatter_max", *neighbors.shape, grad.shape[1], rows, grad, slot, neighbors, back, what="neighbors")
    return back


def _sent_back_on_gpu(grad: Tensor, slot: Tensor, neighbors: Tensor, rows: int) -> Tensor:
    if grad.dtype != torch.float32 or not triton.available():
        return _sent_back(grad, slot, neighbors, rows)
    from geo3d.ops.triton.edge import scatter

    return scatter(grad.contiguous(), slot, None, neighbors.contiguous(), rows)


def _keep_slot(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    b, neighbors, _ = inputs
    ctx.save_for_backward(neighbors, output[1])
    ctx.rows = b.shape[0]
    ctx.mark_non_differentiable(output[1])


def _backward_of_max(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
    neighbors, slot = ctx.saved_tensors
    return torch.ops.geo3d.scatter_max(grad, slot, neighbors, ctx.rows), None, None


define(
    "scatter_max(Tensor grad, Tensor slot, Tensor neighbors, int rows) -> Tensor",
    cpu=_sent_back_on_cpu,
    cuda=_sent_back_on_gpu,
    fake=lambda grad, slot, neighbors, rows: grad.new_empty(rows, grad.shape[1]),
)
_gather_max = define(
    "gather_max(Tensor b, Tensor neighbors, bool wants_slot) -> (Tensor, Tensor)",
    cpu=_best_on_cpu,
    cuda=_best_on_gpu,
    fake=lambda b, neighbors, wants_slot: (
        b.new_empty(neighbors.shape[0], b.shape[1]),
        b.new_empty((neighbors.shape[0], b.shape[1]) if wants_slot else (0,), dtype=_slot_type(neighbors.shape[1])),
    ),
    backward=_backward_of_max,
    setup=_keep_slot,
)


def check_table(neighbors: Tensor, x: Tensor) -> None:
    """Check that ``neighbors`` is (M, k) int64 and ``x`` (M', C) floating point, on one device.

    Raises:
        CloudError: If not; kernels would read beyond the ends of the tensors.
    """
    fits = neighbors.dim() == 2 and neighbors.shape[1] > 0 and neighbors.dtype == torch.int64
    if not fits or x.dim() != 2 or not x.is_floating_point():
        raise CloudError(
            "neighbors must be (M, k) int64 with k >= 1, and features a matrix of floats; found "
            f"{tuple(neighbors.shape)} of {neighbors.dtype} and {tuple(x.shape)} of {x.dtype}"
        )
    check_device("neighbours and features", neighbors, x)


def gather_max(b: Tensor, neighbors: Tensor) -> Tensor:
    """(M, C) the largest ``b_j`` over the neighbours of each point, per channel.

    The gradient goes to the first of equally large neighbours. No tensor of size M x k x C is made.

    Args:
        b: (M', C) float32 or float64.
        neighbors: (M, k) rows of ``b``.

    Raises:
        CloudError: If shapes do not fit, or (on a CPU) ``neighbors`` holds an index out of range.

    Example:
        >>> gather_max(torch.tensor([[1.0], [5.0], [2.0]]), torch.tensor([[0, 2], [1, 0], [2, 1]])).flatten().tolist()
        [2.0, 5.0, 5.0]
    """
    check_table(neighbors, b)
    return _gather_max(b, neighbors, b.requires_grad and torch.is_grad_enabled())[0]


def _gathered(b: Tensor, neighbors: Tensor) -> Tensor:
    """The definition of ``geo3d::gather_sum``."""
    return embedding_bag(neighbors, b, mode="sum")


def _gathered_on_cpu(b: Tensor, neighbors: Tensor) -> Tensor:
    check_indices("neighbors", neighbors, len(b))
    return _gathered(b, neighbors)


define(
    "gather_sum(Tensor b, Tensor neighbors) -> Tensor",
    cpu=_gathered_on_cpu,
    cuda=_gathered,
    fake=lambda b, neighbors: b.new_empty(neighbors.shape[0], b.shape[1]),
    backward=lambda ctx, grad: (sum_to_neighbors(grad, ctx.saved_tensors[0], ctx.rows), None),
    setup=lambda ctx, inputs, output: _keep_table(ctx, *inputs),
)


def _keep_table(ctx: Any, b: Tensor, neighbors: Tensor) -> None:
    ctx.save_for_backward(neighbors)
    ctx.rows = b.shape[0]


def gather_sum(b: Tensor, neighbors: Tensor) -> Tensor:
    """(M, C) the sum of ``b_j`` over the neighbours of each point.

    Args:
        b: (M', C) float32 or float64.
        neighbors: (M, k) rows of ``b``.

    Example:
        >>> gather_sum(torch.tensor([[1.0], [5.0], [2.0]]), torch.tensor([[0, 2], [1, 1], [2, 1]])).flatten().tolist()
        [3.0, 10.0, 7.0]
    """
    check_table(neighbors, b)
    return torch.ops.geo3d.gather_sum(b, neighbors)


def _sums(a: Tensor, neighbors: Tensor, num_points: int) -> Tensor:
    """The definition of ``geo3d::scatter_sum``."""
    order = neighbors.flatten().argsort(stable=True)
    ends = degree(neighbors, num_points).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return embedding_bag(order // neighbors.shape[1], a.contiguous(), starts, mode="sum")


def _sums_on_cpu(a: Tensor, neighbors: Tensor, num_points: int) -> Tensor:
    if not native.usable(a):
        check_indices("neighbors", neighbors, num_points)
        return _sums(a, neighbors, num_points)
    out = a.new_empty(num_points, a.shape[1])
    native.call(
        "scatter_sum",
        *neighbors.shape,
        a.shape[1],
        num_points,
        a.contiguous(),
        neighbors.contiguous(),
        out,
        what="neighbors",
    )
    return out


define(
    "scatter_sum(Tensor a, Tensor neighbors, int num_points) -> Tensor",
    cpu=_sums_on_cpu,
    cuda=_sums,
    fake=lambda a, neighbors, num_points: a.new_empty(num_points, a.shape[1]),
)


def sum_to_neighbors(a: Tensor, neighbors: Tensor, num_points: int) -> Tensor:
    """(num_points, C) each point's sum of ``a_i`` over the points i that have it as a neighbour, in the order of i.

    Args:
        a: (M, C) float32 or float64.
        neighbors: (M, k) indices of points.
        num_points: How many points there are.

    Raises:
        CloudError: If shapes do not fit, or (on a CPU) ``neighbors`` holds an index out of range.
    """
    check_table(neighbors, a)
    if neighbors.shape[0] != a.shape[0]:
        raise CloudError(f"neighbors must have the {a.shape[0]} rows of the features; found {neighbors.shape[0]}")
    return torch.ops.geo3d.scatter_sum(a, neighbors, num_points)
