"""Nearest neighbours in one pass over each cloud: no matrix of distances is ever in memory.

A program owns a few queries of one cloud and walks over its points tile by tile. It keeps the best ``k`` (distance,
column) pairs of each query and replaces the worst of them as long as the tile has a nearer point. It takes a tile's
points nearest first, so that it only ever takes points which are among the best so far: about ``k`` for the first tile
and ``k / t`` for the t-th, ``k log(N / TILE)`` in all. Distances are compared as integers of the same order, because
the minimum of 32 integers is a single instruction of a GPU.
"""

import torch
from torch import Tensor

from geo3d.ops.triton.language import constexpr, jit, power_of_2, tensor, tl

__all__ = ["knn"]

AT_ONCE = 64
"""Most neighbours found in one pass; for more, each further pass continues after the last neighbour of the one before.
"""


@jit
def _cloud_of(block: tensor, ptr: tensor, clouds: tensor, QUERIES: constexpr) -> tensor:
    """The cloud of a block of queries; the blocks of cloud c begin with number ``ptr[c] // QUERIES + c``.

    So the blocks of different clouds do not overlap, and sizes that the host knows bound the number of blocks.
    """
    low = block * 0
    high = low + clouds
    while high - low > 1:
        middle = (low + high) // 2
        begun = tl.load(ptr + middle) // QUERIES + middle <= block
        low = tl.where(begun, middle, low)
        high = tl.where(begun, high, middle)
    return low


@jit
def _ranks(
    x: tensor, query: tensor, point: tensor, stop: tensor, C: constexpr, QUERIES: constexpr, TILE: constexpr
) -> tensor:
    """(QUERIES, TILE) squared distances, up to a constant in each row, which does not change the points' order."""
    rank = tl.zeros((QUERIES, TILE), tl.float32)
    if C <= 3:
        for c in tl.static_range(C):
            mine = tl.load(x + query * C + c, mask=query < stop, other=0.0)
            theirs = tl.load(x + point * C + c, mask=point < stop, other=0.0)
            difference = mine[:, None] - theirs[None, :]
            rank += difference * difference
    else:
        BLOCK: constexpr = 16
        squares = tl.zeros((TILE, BLOCK), tl.float32)
        number = tl.sum((query < stop).to(tl.float32), 0)
        for start in range(0, C, BLOCK):
            c = start + tl.arange(0, BLOCK)
            real = (query < stop)[:, None] & (c < C)[None, :]
            mine = tl.load(x + query[:, None] * C + c[None, :], mask=real, other=0.0)
            # Rounding errors grow with the distance from the origin, so the mean of the queries becomes the origin.
            origin = (tl.sum(mine, 0) / number)[None, :]
            mine = tl.where(real, mine - origin, 0.0)
            there = (point < stop)[:, None] & (c < C)[None, :]
            theirs = tl.load(x + point[:, None] * C + c[None, :], mask=there, other=0.0)
            theirs = tl.where(there, theirs - origin, 0.0)
            rank = tl.dot(mine, tl.trans(theirs), rank, input_precision="ieee")
            squares += theirs * theirs
        rank = tl.sum(squares, 1)[None, :] - 2.0 * rank
    return rank


@jit
def _knn_kernel(
    x: tensor,
    ptr: tensor,
    out: tensor,
    last: tensor,
    rows: tensor,
    clouds: tensor,
    k: tensor,
    begin: tensor,
    number: tensor,
    C: constexpr,
    QUERIES: constexpr,
    TILE: constexpr,
    KEPT: constexpr,
    FIRST: constexpr,
) -> None:
    """Neighbours ``begin`` to ``begin + number`` of each query; ``last (M, 2)`` holds rank and column of the last."""
    FAR: constexpr = 0x7FFFFFFF  # farther than every point, also one at infinity or NaN
    block = tl.program_id(0)
    cloud = _cloud_of(block, ptr, clouds, QUERIES)
    start = tl.minimum(tl.maximum(tl.load(ptr + cloud), 0), rows)
    stop = tl.minimum(tl.maximum(tl.load(ptr + cloud + 1), start), rows)
    query = start + (block - tl.load(ptr + cloud) // QUERIES - cloud) * QUERIES + tl.arange(0, QUERIES)
    real = (query >= start) & (query < stop)
    n = tl.where(tl.max(real.to(tl.int32), 0) > 0, stop - start, 0).to(tl.int32)  # no queries: nothing to look at

    slot = tl.arange(0, KEPT)[None, :]
    kept_column = slot + tl.zeros((QUERIES, KEPT), tl.int32)
    kept = tl.where(kept_column < number, FAR, -FAR - 1)  # beyond `number`: never the worst, hence never exchanged
    worst = tl.max(kept, 1)
    if not FIRST:
        last_rank = tl.load(last + 2 * query, mask=real, other=0)[:, None]
        last_column = tl.load(last + 2 * query + 1, mask=real, other=0)[:, None]

    for tile in range(0, n, TILE):
        column = (tile + tl.arange(0, TILE))[None, :]
        point = start + tile + tl.arange(0, TILE)
        rank = _ranks(x, query, point, stop, C, QUERIES, TILE)
        bits = rank.to(tl.int32, bitcast=True)  # becomes an integer in the order of the floats
        near = tl.where(rank == rank, bits ^ ((bits >> 31) & 0x7FFFFFFF), FAR - 1)
        if C > 3:  # a point is nearest to itself whatever the rounding
            near = tl.where(point[None, :] == query[:, None], -FAR, near)
        near = tl.where(real[:, None] & (column < n), near, FAR)
        if not FIRST:
            near = tl.where((near > last_rank) | ((near == last_rank) & (column > last_column)), near, FAR)
        best = tl.min(near, 1)
        # Columns ascend, so a point as near as the worst kept one comes after it in order and stays out.
        while tl.max((best < worst).to(tl.int32), 0) > 0:
            which = tl.min(tl.where(near == best[:, None], column, FAR), 1)
            near = tl.where(column == which[:, None], FAR, near)
            worst_column = tl.max(tl.where(kept == worst[:, None], kept_column, -1), 1)
            leaves = (kept == worst[:, None]) & (kept_column == worst_column[:, None]) & (best < worst)[:, None]
            kept = tl.where(leaves, best[:, None], kept)
            kept_column = tl.where(leaves, which[:, None], kept_column)
            worst = tl.max(kept, 1)
            best = tl.min(near, 1)

    kept = tl.where(slot < number, kept, FAR)
    n = tl.maximum(n, 1)
    for i in range(begin, tl.minimum(begin + number, n)):
        best = tl.min(kept, 1)
        which = tl.min(tl.where(kept == best[:, None], kept_column, FAR), 1)
        kept = tl.where((kept == best[:, None]) & (kept_column == which[:, None]), FAR, kept)
        for again in range(i, k, n):  # a cloud of fewer than k points repeats its neighbours
            tl.store(out + query * k + again, start + tl.minimum(which, n - 1), mask=real)
        tl.store(last + 2 * query, best, mask=real)
        tl.store(last + 2 * query + 1, which, mask=real)


@torch.no_grad()
def knn(x: Tensor, ptr: Tensor, k: int) -> Tensor:
    """(M, k) int64 flat indices of the ``k`` nearest points of each point in its own cloud, nearest first.

    As :func:`geo3d.ops.search.knn.knn`; beyond three channels a point is its own first neighbour.

    Args:
        x: (M, C) float32 coordinates or features of all clouds, one after another.
        ptr: (B + 1,) int64 offsets of the clouds.
        k: Neighbours of each point, at least 1.
    """
    rows, channels = x.shape
    clouds = len(ptr) - 1
    x, ptr = x.contiguous(), ptr.contiguous()
    out = torch.zeros(rows, k, dtype=torch.int64, device=x.device)
    last = torch.empty(rows, 2, dtype=torch.int32, device=x.device)
    if rows == 0 or clouds == 0:
        return out
    # A program is one warp, so that reductions along a row need no exchange between warps. Its registers limit the
    # queries and the points of a tile.
    queries, tile = (8, 64) if channels <= 3 else (16, 32)
    with torch.cuda.device_of(x):
        for begin in range(0, k, AT_ONCE):
            number = min(k - begin, AT_ONCE)
            _knn_kernel[(rows // queries + clouds,)](
                x, ptr, out, last, rows, clouds, k, begin, number,
                C=channels, QUERIES=queries, TILE=tile, KEPT=max(32, power_of_2(number)), FIRST=begin == 0,
                num_warps=1,
                enable_fp_fusion=channels > 3,  # without it sums of squares have the bits of a CPU's
            )  # fmt: skip
    return out
