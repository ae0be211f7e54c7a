"""Reductions over the edges of a neighbour table that never hold anything of size M x k x C.

An edge value here is ``y_ij = a_i + b_j`` for each neighbour j of each point i: what one linear layer makes of the edge
feature ``[x_j - x_i ; x_i]``. M points, k neighbours, C channels, ``table (M, k)`` of flat indices.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from geo3d.ops.neighbors import degree

BLOCK = 1 << 16
"""Elements to a block of rows; a few such blocks stay in a CPU's second-level cache."""

Join = Callable[..., tuple[Tensor, ...]]


def _blocks(x: Tensor) -> list[slice]:
    """Slices of the rows of ``x``; on a GPU there is but one."""
    rows, channels = x.shape
    step = max(1, BLOCK // max(1, channels)) if x.device.type == "cpu" else max(1, rows)
    return [slice(start, start + step) for start in range(0, rows, step)]


class _GatherMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, b: Tensor, table: Tensor) -> Tensor:
        columns = table.t().contiguous()
        k, rows = columns.shape
        best = b.new_empty(rows, b.shape[1])
        wants_slot = ctx.needs_input_grad[0]
        slot = b.new_empty(best.shape, dtype=torch.uint8 if k <= 256 else torch.int32) if wants_slot else None
        number = torch.arange(k, dtype=b.dtype, device=b.device)
        for block in _blocks(best):
            top = best[block]
            torch.index_select(b, 0, columns[0, block], out=top)
            other, greater, last = torch.empty_like(top), torch.empty_like(top), torch.zeros_like(top)
            for j in range(1, k):
                torch.index_select(b, 0, columns[j, block], out=other)
                if slot is not None:  # 0 or 1 as floats: far faster than booleans and torch.where
                    torch.gt(other, top, out=greater)
                    last.lerp_(number[j].expand_as(last), greater)
                torch.maximum(top, other, out=top)
            if slot is not None:
                slot[block] = last
        ctx.save_for_backward(table, slot)
        ctx.rows = b.shape[0]
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        table, slot = ctx.saved_tensors
        if slot is None:
            return None, None
        grad_b = grad.new_zeros(ctx.rows, grad.shape[1])
        for block in _blocks(grad):
            grad_b.scatter_add_(0, table[block].gather(1, slot[block].long()), grad[block])
        return grad_b, None


def gather_max(b: Tensor, table: Tensor) -> Tensor:
    """(M, C) the largest ``b_j`` over the neighbours of each point, per channel.

    The gradient goes to the first of equally large neighbours. Costs k gathers of (M, C).

    Args:
        b: (M', C) float32 or float64.
        table: (M, k) rows of ``b``.

    Example:
        >>> gather_max(torch.tensor([[1.0], [5.0], [2.0]]), torch.tensor([[0, 2], [1, 0], [2, 1]])).flatten().tolist()
        [2.0, 5.0, 5.0]
    """
    return _GatherMax.apply(b, table)


class _GatherSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, b: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(table)
        ctx.rows = b.shape[0]
        return embedding_bag(table, b, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (table,) = ctx.saved_tensors
        return sum_to_neighbors(grad, table, ctx.rows), None


def gather_sum(b: Tensor, table: Tensor) -> Tensor:
    """(M, C) the sum of ``b_j`` over the neighbours of each point.

    Args:
        b: (M', C) float32 or float64.
        table: (M, k) rows of ``b``.

    Example:
        >>> gather_sum(torch.tensor([[1.0], [5.0], [2.0]]), torch.tensor([[0, 2], [1, 1], [2, 1]])).flatten().tolist()
        [3.0, 10.0, 7.0]
    """
    return _GatherSum.apply(b, table)


def sum_to_neighbors(a: Tensor, table: Tensor, num_points: int) -> Tensor:
    """(num_points, C) each point's sum of ``a_i`` over the points i that have it as a neighbour, by order of i."""
    order = table.flatten().argsort(stable=True)
    ends = degree(table, num_points).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return embedding_bag(order // table.shape[1], a.contiguous(), starts, mode="sum")


class _EdgeSquares(torch.autograd.Function):
    """sum over edges of (a_i + b_j - mean)^2, with (a, b, s) shifted so that nothing cancels."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, s: Tensor, count: Tensor, k: int, shift_a: Tensor, shift_b: Tensor
    ) -> Tensor:
        total = torch.zeros(a.shape[1], dtype=torch.float64 if a.device.type == "cpu" else a.dtype, device=a.device)
        for block in _blocks(a):
            near = a[block] - shift_a
            part = torch.add(s[block], near, alpha=0.5 * k).sub_(k * shift_b).mul_(near).mul_(2)
            total += part.sum(0)
        for block in _blocks(b):
            total += (b[block] - shift_b).square_().mul_(count[block, None]).sum(0)
        ctx.save_for_backward(a, b, s, count, shift_a, shift_b)
        ctx.k = k
        return total.to(a.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, s, count, shift_a, shift_b = ctx.saved_tensors
        k, twice = ctx.k, 2 * grad
        grad_a, grad_b, grad_s = torch.empty_like(a), torch.empty_like(b), torch.empty_like(s)
        for block in _blocks(a):
            near = torch.sub(a[block], shift_a, out=grad_s[block])
            torch.add(s[block], near, alpha=k, out=grad_a[block]).sub_(k * shift_b).mul_(twice)
            near.mul_(twice)
        for block in _blocks(b):
            torch.sub(b[block], shift_b, out=grad_b[block]).mul_(count[block, None]).mul_(twice)
        return grad_a, grad_b, grad_s, None, None, None, None


def _alone(*sums: Tensor) -> tuple[Tensor, ...]:
    return sums


def edge_moments(a: Tensor, b: Tensor, table: Tensor, join: Join = _alone) -> tuple[Tensor, Tensor, Tensor]:
    """(C,) mean and (C,) biased variance of ``a_i + b_j`` over all M * k edges, and () their number.

    Exact, from one gather: with a and b measured from their means, ``sum (a_i + b_j)^2 = sum_i (k a_i^2 + 2 a_i s_i) +
    sum_j d_j b_j^2`` where ``s_i`` sums b over the neighbours of i and ``d_j`` counts how often j is a neighbour.
    Differentiable in ``a`` and ``b``.

    Args:
        a: (M, C) parts of the points, float32 or float64.
        b: (M, C) parts of the neighbours.
        table: (M, k) neighbours.
        join: Sums its arguments over processes; first called with (count, sums), then with the centred squares.
    """
    k = table.shape[1]
    times = degree(table, b.shape[0]).to(b.dtype)
    s = gather_sum(b, table)
    count, total = join(a.new_tensor(float(table.numel())), k * a.sum(0) + s.sum(0))
    mean = total / count
    # The squares do not depend on the shifts beyond their sum, nor (summed over processes) on the mean: no gradient.
    shift_b = s.detach().sum(0) / table.numel()
    (squares,) = join(_EdgeSquares.apply(a, b, s, times, k, mean.detach() - shift_b, shift_b))
    return mean, squares / count, count
