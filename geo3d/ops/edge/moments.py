"""Moments over the edges to the neighbours of points, without a tensor of the edges.

The value of an edge is ``y_ij = a_i + b_j`` for each neighbour j of each point i: the output of one linear layer on the
edge feature ``[x_j - x_i ; x_i]``. M points, k neighbours, C channels, ``neighbors (M, k)`` of flat indices.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from geo3d.ops.edge.gather import blocks, gather_sum
from geo3d.ops.join import Join, alone
from geo3d.ops.search.knn import degree


class _EdgeSquares(torch.autograd.Function):
    """(C,) sum over edges of ``(a_i + b_j - mean)^2``; a, b and s are shifted first, to avoid cancellation."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, s: Tensor, count: Tensor, k: int, shift_a: Tensor, shift_b: Tensor
    ) -> Tensor:
        total = torch.zeros(a.shape[1], dtype=torch.float64 if a.device.type == "cpu" else a.dtype, device=a.device)
        for block in blocks(a):
            near = a[block] - shift_a
            part = torch.add(s[block], near, alpha=0.5 * k).sub_(k * shift_b).mul_(near).mul_(2)
            total += part.sum(0)
        for block in blocks(b):
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
        for block in blocks(a):
            near = torch.sub(a[block], shift_a, out=grad_s[block])
            torch.add(s[block], near, alpha=k, out=grad_a[block]).sub_(k * shift_b).mul_(twice)
            near.mul_(twice)
        for block in blocks(b):
            torch.sub(b[block], shift_b, out=grad_b[block]).mul_(count[block, None]).mul_(twice)
        return grad_a, grad_b, grad_s, None, None, None, None


def edge_moments(a: Tensor, b: Tensor, neighbors: Tensor, join: Join = alone) -> tuple[Tensor, Tensor, Tensor]:
    """(C,) mean and (C,) biased variance of ``a_i + b_j`` over all M * k edges, and () the number of edges.

    Exact, from one gather: with a and b measured from their means, ``sum (a_i + b_j)^2 = sum_i (k a_i^2 + 2 a_i s_i) +
    sum_j d_j b_j^2`` where ``s_i`` sums b over the neighbours of i and ``d_j`` counts how often j is a neighbour.
    Differentiable in ``a`` and ``b``.

    Args:
        a: (M, C) parts of the points, float32 or float64.
        b: (M, C) parts of the neighbours.
        neighbors: (M, k) neighbours.
        join: Sums its arguments over processes; first called with (count, sums), then with the centred squares.
    """
    k = neighbors.shape[1]
    s = gather_sum(b, neighbors)  # this checks the indices
    times = degree(neighbors, b.shape[0]).to(b.dtype)
    count, total = join(a.new_tensor(float(neighbors.numel())), k * a.sum(0) + s.sum(0))
    mean = total / count
    # The squares depend on the shifts only through their sum, the mean, where their derivative (summed over processes)
    # is zero. So the shifts need no gradient.
    shift_b = s.detach().sum(0) / neighbors.numel()
    (squares,) = join(_EdgeSquares.apply(a, b, s, times, k, mean.detach() - shift_b, shift_b))
    return mean, squares / count, count
