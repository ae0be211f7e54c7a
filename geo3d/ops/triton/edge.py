"""EdgeConv's reductions over neighbours, forward and backward, without a tensor of the edges.

In the forward pass a program owns some points and channels and reads their neighbours once, for maximum, slot and sum.
In the backward pass ``neighbors`` is transposed once (which edges lead to each point, in order), and a program adds up
the gradients from the edges of one point. There are no atomic additions, so the same input gives the same bits.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from geo3d.ops.triton.language import constexpr, jit, power_of_2, tensor, tl

__all__ = ["Transposed", "gather_max", "scatter", "transposed"]

CHANNELS = 128
"""Most channels of a program."""
ELEMENTS = 1024
"""Points times channels of a program."""
EDGES = 8
"""Edges that a program of the backward pass loads at a time."""


@jit
def _gather_kernel(
    b: tensor,
    neighbors: tensor,
    best: tensor,
    slot: tensor,
    total: tensor,
    num_rows: tensor,
    num_points: tensor,
    k: tensor,
    C: constexpr,
    ROWS: constexpr,
    CHANNELS: constexpr,
    SLOT: constexpr,
    SUM: constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    c = (tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS))[None, :]
    here = (row < num_rows)[:, None] & (c < C)
    top = tl.full((ROWS, CHANNELS), float("-inf"), tl.float32)
    at = tl.zeros((ROWS, CHANNELS), tl.int32)
    added = tl.zeros((ROWS, CHANNELS), tl.float32)
    for j in range(k):
        index = tl.load(neighbors + row * k + j, mask=row < num_rows, other=0)[:, None]
        known = here & (index >= 0) & (index < num_points)
        value = tl.load(b + index * C + c, mask=known, other=float("nan"))  # a wrong index reads nothing and gives NaN
        greater = (value > top) | (value != value)  # the first of equals; NaN stays
        top = tl.where(greater, value, top)
        at = tl.where(greater, j, at)
        added += value
    place = row[:, None] * C + c
    tl.store(best + place, top, mask=here)
    if SLOT:
        tl.store(slot + place, at.to(slot.dtype.element_ty), mask=here)
    if SUM:
        tl.store(total + place, added, mask=here)


def gather_max(
    b: Tensor, neighbors: Tensor, *, wants_slot: bool = True, wants_sum: bool = True
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(M, C) the largest ``b_j`` over the neighbours of each point, (M, C) which of the k it is (slots), (M, C) sums.

    Of equally large neighbours the slot is that of the first. A wrong index gives NaN.

    Args:
        b: (M', C) float32.
        neighbors: (M, k) int64 rows of ``b``.
        wants_slot: Whether slots are needed (uint8, int32 for k > 256); else they are None.
        wants_sum: Whether sums are needed; else they are None.
    """
    (rows, k), channels = neighbors.shape, b.shape[1]
    b, neighbors = b.contiguous(), neighbors.contiguous()
    best = b.new_empty(rows, channels)
    slot = b.new_empty(best.shape, dtype=torch.uint8 if k <= 256 else torch.int32) if wants_slot else None
    total = torch.empty_like(best) if wants_sum else None
    if best.numel():
        wide = min(CHANNELS, power_of_2(channels))
        points = min(ELEMENTS // wide, 64)
        grid = (-(-rows // points), -(-channels // wide))
        with torch.cuda.device_of(b):
            _gather_kernel[grid](
                b, neighbors, best, slot, total, rows, len(b), k,
                C=channels, ROWS=points, CHANNELS=wide, SLOT=wants_slot, SUM=wants_sum,
            )  # fmt: skip
    return best, slot, total


class Transposed(NamedTuple):
    """The edges of ``neighbors (M, k)``, sorted by the point they lead to."""

    edges: Tensor
    """(M * k,) int64 places ``i * k + slot`` in the flattened neighbors, sorted by point, then by i"""
    ptr: Tensor
    """(rows + 1,) int64 where the edges of each point begin; those of indices out of range are left out"""


def transposed(neighbors: Tensor, rows: int) -> Transposed:
    """The edges of ``neighbors (M, k)`` that lead to each of ``rows`` points.

    Example:
        >>> [part.tolist() for part in transposed(torch.tensor([[0, 1], [1, 1]]), 3)]
        [[0, 1, 2, 3], [0, 1, 4, 4]]
    """
    flat = neighbors.flatten()
    if rows < 2**31 - 1:  # sorting int32 takes half the passes
        flat = flat.clamp(-1, rows).int()
    point, edges = flat.sort(stable=True)
    return Transposed(
        edges, torch.searchsorted(point, torch.arange(rows + 1, device=neighbors.device, dtype=point.dtype))
    )


@jit
def _scatter_kernel(
    edges: tensor,
    ptr: tensor,
    grad_max: tensor,
    slot: tensor,
    grad_sum: tensor,
    out: tensor,
    k: tensor,
    C: constexpr,
    EDGES: constexpr,
    CHANNELS: constexpr,
    MAX: constexpr,
    SUM: constexpr,
) -> None:
    point = tl.program_id(0).to(tl.int64)
    c = (tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS))[None, :]
    start = tl.load(ptr + point)
    number = (tl.load(ptr + point + 1) - start).to(tl.int32)
    added = tl.zeros((EDGES, CHANNELS), tl.float32)
    for first in range(0, number, EDGES):
        e = first + tl.arange(0, EDGES)
        edge = tl.load(edges + start + e, mask=e < number, other=0)
        source = edge // k
        here = (e < number)[:, None] & (c < C)
        place = source[:, None] * C + c
        if MAX:
            won = here & (tl.load(slot + place, mask=here, other=0).to(tl.int32) == (edge - source * k)[:, None])
            added += tl.load(grad_max + place, mask=won, other=0.0)
        if SUM:
            added += tl.load(grad_sum + place, mask=here, other=0.0)
    column = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    tl.store(out + point * C + column, tl.sum(added, 0), mask=column < C)


def scatter(
    grad_max: Tensor | None,
    slot: Tensor | None,
    grad_sum: Tensor | None,
    neighbors: Tensor,
    rows: int,
    edges: Transposed | None = None,
) -> Tensor:
    """(rows, C) float32 the gradient of :func:`gather_max` for ``b``; always the same bits.

    With ``grad_sum`` alone it is each point's sum over the points that have it as a neighbour.

    Args:
        grad_max: (M, C) float32 gradient of the maxima, or None.
        slot: (M, C) the slots of the maxima, or None where ``grad_max`` is.
        grad_sum: (M, C) float32 gradient of the sums, or None.
        neighbors: (M, k) int64 neighbours; indices out of range are ignored.
        rows: Rows of ``b``.
        edges: ``transposed(neighbors, rows)`` of the same arguments, if the caller has it already.

    Raises:
        ValueError: If both gradients are None, or ``grad_max`` comes without slots.
    """
    grad = grad_sum if grad_max is None else grad_max
    if grad is None or (grad_max is not None and slot is None):
        raise ValueError("scatter needs grad_max with slot, or grad_sum, or all three")
    channels, k = grad.shape[1], neighbors.shape[1]
    out = grad.new_zeros(rows, channels)
    if out.numel() and neighbors.numel():
        edge, ptr = transposed(neighbors, rows) if edges is None else edges
        grad_max, slot, grad_sum = (None if part is None else part.contiguous() for part in (grad_max, slot, grad_sum))
        wide = min(CHANNELS, power_of_2(channels))
        with torch.cuda.device_of(grad):
            _scatter_kernel[(rows, -(-channels // wide))](
                edge, ptr, grad_max, slot, grad_sum, out, k,
                C=channels, EDGES=EDGES, CHANNELS=wide, MAX=grad_max is not None, SUM=grad_sum is not None, num_warps=1,
            )  # fmt: skip
    return out
