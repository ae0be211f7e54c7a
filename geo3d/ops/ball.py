"""Ball query: the points near each centre, as PointNet++ takes them (arXiv:1706.02413)."""

from collections.abc import Iterator

import torch
from torch import Tensor

from geo3d.errors import ConfigError
from geo3d.ops.sampling import padded, padded_rows

CHUNK = 1 << 20
"""Distances held at a time: 4 MB of float32, which stays near the processor's cache."""


def squared_distances(
    pos: Tensor, ptr: Tensor, centers: Tensor, ptr_c: Tensor, num_points: int | None, num_centers: int | None
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Slices of clouds (b) and of their centres (s), with the (b, s, N) squared distances to the cloud's points.

    They are sums of squared differences, not the faster but less exact expansion with a matrix product. Where a
    cloud has fewer than N points the distance is infinite; centres are padded to the size of the largest group.
    """
    points = padded(pos, ptr, num_points, torch.inf).transpose(1, 2).contiguous()
    queries = padded(centers, ptr_c, num_centers, 0.0).transpose(1, 2).contiguous()
    clouds, (num_queries, size) = len(points), (queries.shape[2], points.shape[2])
    some_queries = min(num_queries, max(1, CHUNK // size))
    some_clouds = max(1, CHUNK // (size * some_queries))
    for b in (slice(i, min(i + some_clouds, clouds)) for i in range(0, clouds, some_clouds)):
        for s in (slice(i, min(i + some_queries, num_queries)) for i in range(0, num_queries, some_queries)):
            squares = [(points[b, d, None, :] - queries[b, d, s, None]).square_() for d in range(3)]
            yield b, s, squares[0].add_(squares[1]).add_(squares[2])


@torch.no_grad()
def ball_query(
    pos: Tensor,
    ptr: Tensor,
    centers: Tensor,
    ptr_c: Tensor,
    radius: float,
    k: int,
    num_points: int | None = None,
    num_centers: int | None = None,
) -> Tensor:
    """(Mc, k) flat indices of the first k points, in index order, no farther than ``radius`` from each centre.

    A row with fewer than k such points is filled up with its first one, as published: the row's maximum is not
    changed, statistics over rows count the first point more than once. A centre with nothing inside its radius
    takes its nearest point.

    Args:
        pos: (M, 3) points of all clouds, one after another.
        ptr: (B + 1,) their offsets.
        centers: (Mc, 3) positions of the centres of all clouds, one after another.
        ptr_c: (B + 1,) their offsets.
        radius: In units of ``pos``.
        k: Points a row.
        num_points: N when all clouds have N points, else None.
        num_centers: S when all clouds have S centres, else None.

    Raises:
        ConfigError: If ``radius`` or ``k`` is not positive.

    Example:
        >>> line = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
        >>> ptr = torch.tensor([0, 3])
        >>> ball_query(line, ptr, line, ptr, radius=1.0, k=3).tolist()
        [[0, 1, 0], [0, 1, 2], [1, 2, 1]]
    """
    if radius <= 0 or k < 1:
        raise ConfigError(f"a ball query needs radius > 0 and k >= 1; found radius {radius} and k {k}")
    size_c = num_centers if num_centers is not None else int(ptr_c.diff().max())
    table = torch.empty(len(ptr) - 1, size_c, k, dtype=torch.long, device=pos.device)
    wanted = torch.arange(1, k + 1, dtype=torch.int32, device=pos.device)
    for b, s, distance in squared_distances(pos, ptr, centers, ptr_c, num_points, num_centers):
        reach = distance.amin(2, keepdim=True).clamp_min(radius**2)
        count = (distance <= reach).cumsum(2, dtype=torch.int32)
        # The j-th point inside is where the count first becomes j; past the end means there is none.
        found = torch.searchsorted(count, wanted.expand(*count.shape[:2], k).contiguous())
        table[b, s] = torch.where(found < count.shape[2], found, found[..., :1])
    table += ptr[:-1, None, None]
    table = table.view(-1, k)
    return table if num_centers is not None else table[padded_rows(ptr_c, size_c, len(centers))]
