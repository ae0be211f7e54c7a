"""Farthest point sampling, one program per cloud.

A cloud that fits into the registers of one program stays there for all picks. For a larger cloud the program stores
each point's distance to the nearest pick in memory and works tile by tile.
"""

import torch
from torch import Tensor

from geo3d.ops.triton.language import constexpr, jit, power_of_2, tensor, tl

__all__ = ["farthest_points"]

RESIDENT = 8192
"""Points of the largest cloud that is held in registers."""
TILE = 4096
"""Points in a tile of a larger cloud."""


@jit
def _squared_distance(x: tensor, y: tensor, z: tensor, pos: tensor, pick: tensor) -> tensor:
    dx = x - tl.load(pos + 3 * pick)
    dy = y - tl.load(pos + 3 * pick + 1)
    dz = z - tl.load(pos + 3 * pick + 2)
    return dx * dx + dy * dy + dz * dz


@jit
def _farthest_kernel(
    pos: tensor,
    ptr: tensor,
    first: tensor,
    out: tensor,
    distances: tensor,
    rows: tensor,
    num_samples: tensor,
    TILE: constexpr,
    RESIDENT: constexpr,
) -> None:
    cloud = tl.program_id(0).to(tl.int64)
    start = tl.minimum(tl.maximum(tl.load(ptr + cloud), 0), rows)
    stop = tl.minimum(tl.maximum(tl.load(ptr + cloud + 1), start), rows)
    n = (stop - start).to(tl.int32)
    out += cloud * num_samples
    if n > 0:
        pick = tl.minimum(tl.maximum(tl.load(first + cloud), 0), n - 1).to(tl.int32)
        i = tl.arange(0, TILE)
        if RESIDENT:
            x = tl.load(pos + 3 * (start + i), mask=i < n, other=0.0)
            y = tl.load(pos + 3 * (start + i) + 1, mask=i < n, other=0.0)
            z = tl.load(pos + 3 * (start + i) + 2, mask=i < n, other=0.0)
            distance = tl.where(i < n, float("inf"), -1.0)
        else:
            for tile in range(0, n, TILE):
                tl.store(distances + start + tile + i, float("inf"), mask=tile + i < n)
            tl.debug_barrier()
        for sample in range(tl.minimum(num_samples, n)):
            for again in range(sample, num_samples, n):  # a cloud of fewer points begins again with its first pick
                tl.store(out + again, start + pick)
            if RESIDENT:
                near = _squared_distance(x, y, z, pos, start + pick)
                # Below every distance: picked points and padding never win. Of equal ones the first wins.
                distance = tl.where(i == pick, -1.0, tl.minimum(distance, near))
                pick = tl.argmax(distance, 0, tie_break_left=True)
            else:
                farthest = -2.0
                following = 0
                for tile in range(0, n, TILE):
                    j = tile + i
                    x = tl.load(pos + 3 * (start + j), mask=j < n, other=0.0)
                    y = tl.load(pos + 3 * (start + j) + 1, mask=j < n, other=0.0)
                    z = tl.load(pos + 3 * (start + j) + 2, mask=j < n, other=0.0)
                    distance = tl.load(distances + start + j, mask=j < n, other=-1.0)
                    near = _squared_distance(x, y, z, pos, start + pick)
                    distance = tl.where(j == pick, -1.0, tl.minimum(distance, near))
                    tl.store(distances + start + j, distance, mask=j < n)
                    top = tl.max(distance, 0)
                    where = tile + tl.argmax(distance, 0, tie_break_left=True)
                    following = tl.where(top > farthest, where, following)
                    farthest = tl.maximum(farthest, top)
                tl.debug_barrier()  # from here on threads may read what others wrote
                pick = following
            pick = tl.minimum(pick, n - 1)  # whatever NaN does, the next pick is a point of the cloud


@torch.no_grad()
def farthest_points(pos: Tensor, ptr: Tensor, num_samples: int, first: Tensor, max_points: int | None = None) -> Tensor:
    """(B * num_samples,) int64 flat indices of points of each cloud, each the farthest from those picked before it.

    As :func:`geo3d.ops.search.farthest.farthest_points`: ties go to the lower index, no point is picked twice before
    all are, and a cloud of fewer points then repeats its picks.

    Args:
        pos: (M, 3) float32 coordinates of all clouds, one after another.
        ptr: (B + 1,) int64 offsets of the clouds.
        num_samples: How many points to pick from each cloud.
        first: (B,) int64 the first pick of each cloud, as a position inside it.
        max_points: An upper bound of the points in a cloud, if known; the closer, the faster. If a cloud has more
            points, those beyond the bound may never be picked.
    """
    rows, clouds = len(pos), len(ptr) - 1
    pos, ptr, first = pos.contiguous(), ptr.contiguous(), first.contiguous()
    out = torch.zeros(clouds * num_samples, dtype=torch.int64, device=pos.device)
    if rows == 0 or out.numel() == 0:
        return out
    largest = rows if max_points is None else min(rows, max_points)
    tile = power_of_2(largest)
    resident = tile <= RESIDENT
    tile = tile if resident else TILE
    distances = pos.new_empty(0 if resident else rows)
    with torch.cuda.device_of(pos):
        _farthest_kernel[(clouds,)](
            pos, ptr, first, out, distances, rows, num_samples,
            TILE=tile, RESIDENT=resident, num_warps=min(16, max(1, tile // 256)), enable_fp_fusion=False,
        )  # fmt: skip
    return out
