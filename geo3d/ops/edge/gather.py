"""Maxima and sums over the neighbours of points, and the way back, never holding anything of size M x k x C.

M points, k neighbours, C channels, ``table (M, k)`` of flat indices.
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
"""Elements to a block of rows; a few such blocks stay in a CPU's second-level cache."""


def blocks(x: Tensor) -> list[slice]:
    """Slices of the rows of ``x``; on a GPU there is but one."""
    rows, channels = x.shape
    step = max(1, BLOCK // max(1, channels)) if x.device.type == "cpu" else max(1, rows)
    return [slice(start, start + step) for start in range(0, rows, step)]


def _best(b: Tensor, table: Tensor, wants_slot: bool) -> tuple[Tensor, Tensor]:
    """The definition of ``geo3d::gather_max``: maxima (M, C) and, if wanted, which of the k neighbours has each."""
    columns = table.t().contiguous()
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


def _best_on_cpu(b: Tensor, table: Tensor, wants_slot: bool) -> tuple[Tensor, Tensor]:
    (rows, k), channels = table.shape, b.shape[1]
    if not native.usable(b) or k > 256:
        check_indices("table", table, len(b))
        return _best(b, table, wants_slot)
    b, table = b.contiguous(), table.contiguous()
    best = b.new_empty(rows, channels)
    slot = torch.empty(best.shape if wants_slot else 0, dtype=torch.uint8)
    native.call("gather_max", rows, k, channels, len(b), b, table, best, slot if wants_slot else None, what="table")
    return best, slot


def _best_on_gpu(b: Tensor, table: Tensor, wants_slot: bool) -> tuple[Tensor, Tensor]:
    if b.dtype != torch.float32 or not triton.available():
        return _best(b, table, wants_slot)
    from geo3d.ops.triton.edge import gather_max

    best, slot, _ = gather_max(b.contiguous(), table.contiguous(), wants_slot=wants_slot, wants_sum=False)
    return best, b.new_empty(0, dtype=_slot_type(table.shape[1])) if slot is None else slot


def _sent_back(grad: Tensor, slot: Tensor, table: Tensor, rows: int) -> Tensor:
    """The definition of ``geo3d::scatter_max``: (rows, C) what each row receives from where it was the largest."""
    back = grad.new_zeros(rows, grad.shape[1])
    for block in blocks(grad):
        back.scatter_add_(0, table[block].gather(1, slot[block].long()), grad[block])
    return back


def _sent_back_on_cpu(grad: Tensor, slot: Tensor, table: Tensor, rows: int) -> Tensor:
    if not native.usable(grad) or slot.dtype != torch.uint8:
        check_indices("table", table, rows)
        check_indices("table", slot, table.shape[1])
        return _sent_back(grad, slot, table, rows)
    grad, back = grad.contiguous(), grad.new_empty(rows, grad.shape[1])
    slot, table = slot.contiguous(), table.contiguous()
    native.call("scatter_max", *table.shape, grad.shape[1], rows, grad, slot, table, back, what="table")
    return back


def _sent_back_on_gpu(grad: Tensor, slot: Tensor, table: Tensor, rows: int) -> Tensor:
    if grad.dtype != torch.float32 or not triton.available():
        return _sent_back(grad, slot, table, rows)
    from geo3d.ops.triton.edge import scatter

    return scatter(grad.contiguous(), slot, None, table.contiguous(), rows)


def _keep_slot(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    b, table, _ = inputs
    ctx.save_for_backward(table, output[1])
    ctx.rows = b.shape[0]
    ctx.mark_non_differentiable(output[1])


def _backward_of_max(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
    table, slot = ctx.saved_tensors
    return torch.ops.geo3d.scatter_max(grad, slot, table, ctx.rows), None, None


define(
    "scatter_max(Tensor grad, Tensor slot, Tensor table, int rows) -> Tensor",
    cpu=_sent_back_on_cpu,
    cuda=_sent_back_on_gpu,
    fake=lambda grad, slot, table, rows: grad.new_empty(rows, grad.shape[1]),
)
_gather_max = define(
    "gather_max(Tensor b, Tensor table, bool wants_slot) -> (Tensor, Tensor)",
    cpu=_best_on_cpu,
    cuda=_best_on_gpu,
    fake=lambda b, table, wants_slot: (
        b.new_empty(table.shape[0], b.shape[1]),
        b.new_empty((table.shape[0], b.shape[1]) if wants_slot else (0,), dtype=_slot_type(table.shape[1])),
    ),
    backward=_backward_of_max,
    setup=_keep_slot,
)


def check_table(table: Tensor, x: Tensor) -> None:
    """Check that ``table`` (M, k) and ``x`` (M', C) have the shapes and types of neighbours and features.

    Raises:
        CloudError: If not; kernels would read beyond their ends.
    """
    fits = table.dim() == 2 and table.shape[1] > 0 and table.dtype == torch.int64
    if not fits or x.dim() != 2 or not x.is_floating_point():
        raise CloudError(
            "neighbours must be a table (M, k) of int64 with k >= 1, and features a matrix of floats; found "
            f"{tuple(table.shape)} of {table.dtype} and {tuple(x.shape)} of {x.dtype}"
        )
    check_device("neighbours and features", table, x)


def gather_max(b: Tensor, table: Tensor) -> Tensor:
    """(M, C) the largest ``b_j`` over the neighbours of each point, per channel.

    The gradient goes to the first of equally large neighbours. Nothing of size M x k x C is made.

    Args:
        b: (M', C) float32 or float64.
        table: (M, k) rows of ``b``.

    Raises:
        CloudError: If the table holds an index out of range (on a CPU).

    Example:
        >>> gather_max(torch.tensor([[1.0], [5.0], [2.0]]), torch.tensor([[0, 2], [1, 0], [2, 1]])).flatten().tolist()
        [2.0, 5.0, 5.0]
    """
    check_table(table, b)
    return _gather_max(b, table, b.requires_grad and torch.is_grad_enabled())[0]


def _gathered(b: Tensor, table: Tensor) -> Tensor:
    """The definition of ``geo3d::gather_sum``."""
    return embedding_bag(table, b, mode="sum")


def _gathered_on_cpu(b: Tensor, table: Tensor) -> Tensor:
    check_indices("table", table, len(b))
    return _gathered(b, table)


define(
    "gather_sum(Tensor b, Tensor table) -> Tensor",
    cpu=_gathered_on_cpu,
    cuda=_gathered,
    fake=lambda b, table: b.new_empty(table.shape[0], b.shape[1]),
    backward=lambda ctx, grad: (sum_to_neighbors(grad, ctx.saved_tensors[0], ctx.rows), None),
    setup=lambda ctx, inputs, output: _keep_table(ctx, *inputs),
)


def _keep_table(ctx: Any, b: Tensor, table: Tensor) -> None:
    ctx.save_for_backward(table)
    ctx.rows = b.shape[0]


def gather_sum(b: Tensor, table: Tensor) -> Tensor:
    """(M, C) the sum of ``b_j`` over the neighbours of each point.

    Args:
        b: (M', C) float32 or float64.
        table: (M, k) rows of ``b``.

    Example:
        >>> gather_sum(torch.tensor([[1.0], [5.0], [2.0]]), torch.tensor([[0, 2], [1, 1], [2, 1]])).flatten().tolist()
        [3.0, 10.0, 7.0]
    """
    check_table(table, b)
    return torch.ops.geo3d.gather_sum(b, table)


def _sums(a: Tensor, table: Tensor, num_points: int) -> Tensor:
    """The definition of ``geo3d::scatter_sum``."""
    order = table.flatten().argsort(stable=True)
    ends = degree(table, num_points).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return embedding_bag(order // table.shape[1], a.contiguous(), starts, mode="sum")


def _sums_on_cpu(a: Tensor, table: Tensor, num_points: int) -> Tensor:
    if not native.usable(a):
        check_indices("table", table, num_points)
        return _sums(a, table, num_points)
    out = a.new_empty(num_points, a.shape[1])
    native.call(
        "scatter_sum", *table.shape, a.shape[1], num_points, a.contiguous(), table.contiguous(), out, what="table"
    )
    return out


define(
    "scatter_sum(Tensor a, Tensor table, int num_points) -> Tensor",
    cpu=_sums_on_cpu,
    cuda=_sums,
    fake=lambda a, table, num_points: a.new_empty(num_points, a.shape[1]),
)


def sum_to_neighbors(a: Tensor, table: Tensor, num_points: int) -> Tensor:
    """(num_points, C) each point's sum of ``a_i`` over the points i that have it as a neighbour, by order of i.

    Args:
        a: (M, C) float32 or float64.
        table: (M, k) indices of points.
        num_points: How many points there are.

    Raises:
        CloudError: If shapes do not fit, or (on a CPU) the table holds an index out of range.
    """
    check_table(table, a)
    if table.shape[0] != a.shape[0]:
        raise CloudError(f"a table of {table.shape[0]} rows does not fit {a.shape[0]} rows of features")
    return torch.ops.geo3d.scatter_sum(a, table, num_points)
