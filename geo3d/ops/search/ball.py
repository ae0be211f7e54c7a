"""Ball query: the points near each centre, as PointNet++ takes them (arXiv:1706.02413)."""

from collections.abc import Iterator

import torch
from torch import Tensor

from geo3d.cloud import Layout
from geo3d.errors import CloudError, ConfigError
from geo3d.ops import native
from geo3d.ops.checks import check_finite, check_offsets, common_size
from geo3d.ops.library import define
from geo3d.ops.search.farthest import as_float, check_shapes, padded, padded_rows

CHUNK = 1 << 20
"""Distances held at a time: 4 MB of float32, which stays near the processor's cache."""


def squared_distances(
    pos: Tensor, ptr: Tensor, centers: Tensor, center_ptr: Tensor, num_points: int | None, num_centers: int | None
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Slices of clouds (b) and of their centres (s), with the (b, s, N) squared distances to the cloud's points.

    They are sums of squared differences, not the faster but less exact expansion with a matrix product. Where a
    cloud has fewer than N points the distance is infinite. Centres are padded to the most centres of any cloud.
    """
    points = padded(pos, ptr, num_points, torch.inf).transpose(1, 2).contiguous()
    queries = padded(centers, center_ptr, num_centers, 0.0).transpose(1, 2).contiguous()
    clouds, (num_queries, size) = len(points), (queries.shape[2], points.shape[2])
    some_queries = min(num_queries, max(1, CHUNK // size))
    some_clouds = max(1, CHUNK // (size * some_queries))
    for b in (slice(i, min(i + some_clouds, clouds)) for i in range(0, clouds, some_clouds)):
        for s in (slice(i, min(i + some_queries, num_queries)) for i in range(0, num_queries, some_queries)):
            squares = [(points[b, d, None, :] - queries[b, d, s, None]).square_() for d in range(3)]
            yield b, s, squares[0].add_(squares[1]).add_(squares[2])


def check_pair(
    what: str,
    pos: Tensor,
    ptr: Tensor,
    centers: Tensor,
    center_ptr: Tensor,
    num_points: int | None,
    num_centers: int | None,
) -> None:
    """Check that points and centres can belong to equally many clouds; does not read their values.

    Raises:
        CloudError: If they cannot.
    """
    check_shapes(what, pos, ptr, num_points)
    check_shapes(f"{what}, centres", centers, center_ptr, num_centers)
    if ptr.shape != center_ptr.shape:
        raise CloudError(
            f"{what}: points and centres must be of equally many clouds; found {ptr.shape[0] - 1} and "
            f"{center_ptr.shape[0] - 1}"
        )


def check_pair_values(what: str, pos: Tensor, ptr: Tensor, centers: Tensor, center_ptr: Tensor) -> None:
    """Check that both offsets rise, then that points and centres are finite.

    Raises:
        CloudError: If offsets do not.
        NotFiniteError: If points or centres are not.
    """
    check_offsets(what, ptr, len(pos))
    check_offsets(what, center_ptr, len(centers))
    check_finite(what, pos, centers)


def _reference(
    pos: Tensor,
    ptr: Tensor,
    centers: Tensor,
    center_ptr: Tensor,
    radius: float,
    k: int,
    num_points: int | None,
    num_centers: int | None,
) -> tuple[Tensor, Tensor]:
    size_c = num_centers if num_centers is not None else int(center_ptr.diff().max())
    neighbors = torch.empty(len(ptr) - 1, size_c, k, dtype=torch.long, device=pos.device)
    inside = neighbors.new_empty(neighbors.shape[:2])
    wanted = torch.arange(1, k + 1, dtype=torch.int32, device=pos.device)
    for b, s, distance in squared_distances(pos, ptr, centers, center_ptr, num_points, num_centers):
        reach = distance.amin(2, keepdim=True).clamp_min(radius**2)
        count = (distance <= reach).cumsum(2, dtype=torch.int32)
        # The j-th point inside is where the count first becomes j; past the end means there is none.
        place = torch.searchsorted(count, wanted.expand(*count.shape[:2], k).contiguous())
        neighbors[b, s] = torch.where(place < count.shape[2], place, place[..., :1])
        inside[b, s] = count[..., -1].clamp(max=k).long()
    neighbors += ptr[:-1, None, None]
    neighbors, inside = neighbors.view(-1, k), inside.view(-1)
    if num_centers is not None:
        return neighbors, inside
    rows = padded_rows(center_ptr, size_c, len(centers))
    return neighbors[rows], inside[rows]


def _cpu(
    pos: Tensor,
    ptr: Tensor,
    centers: Tensor,
    center_ptr: Tensor,
    radius: float,
    k: int,
    num_points: int | None,
    num_centers: int | None,
) -> tuple[Tensor, Tensor]:
    what = "ball_query: pos, centers or their offsets"
    if not native.usable(pos, centers):
        check_pair_values(what, pos, ptr, centers, center_ptr)
        sizes = common_size(ptr, num_points), common_size(center_ptr, num_centers)
        return _reference(pos, ptr, centers, center_ptr, radius, k, *sizes)
    neighbors, count = ptr.new_empty(len(centers), k), ptr.new_empty(len(centers))
    counts = len(pos), len(centers), len(ptr) - 1, k
    arrays = (t.contiguous() for t in (pos, ptr, centers, center_ptr))
    native.call("ball_query", *counts, float(radius**2), *arrays, neighbors, count, what=what)
    return neighbors, count


def _fake(
    pos: Tensor, ptr: Tensor, centers: Tensor, center_ptr: Tensor, radius: float, k: int, *sizes: int | None
) -> tuple[Tensor, Tensor]:
    return ptr.new_empty(centers.shape[0], k), ptr.new_empty(centers.shape[0])


_ball_query = define(
    "ball_query(Tensor pos, Tensor ptr, Tensor centers, Tensor center_ptr, float radius, int k, int? num_points, "
    "int? num_centers) -> (Tensor, Tensor)",
    cpu=_cpu,
    cuda=_reference,
    fake=_fake,
)


def ball_query(pos: Tensor, layout: Layout, centers: Tensor, center_layout: Layout, radius: float, k: int) -> Tensor:
    """(Mc, k) flat indices of the first k points, in index order, no farther than ``radius`` from each centre.

    A row with fewer than k such points is padded with its first one, as published: this does not change the row's
    maximum, but statistics over rows count the first point more than once. A centre without a point inside its radius
    takes its nearest point (all of them, if several are equally near).

    Args:
        pos: (M, 3) points of all clouds, one after another.
        layout: Which of them belongs to which cloud.
        centers: (Mc, 3) positions of the centres of all clouds, one after another.
        center_layout: Which of them belongs to which cloud.
        radius: In units of ``pos``.
        k: Points in each row.

    Raises:
        ConfigError: If ``radius`` or ``k`` is not positive.
        CloudError: If points or centres are not finite, or offsets do not fit them (on a GPU: if shapes do not).

    Example:
        >>> line = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
        >>> layout = Layout(torch.tensor([0, 3]))
        >>> ball_query(line, layout, line, layout, radius=1.0, k=3).tolist()
        [[0, 1, 0], [0, 1, 2], [1, 2, 1]]
    """
    return ball_query_counts(pos, layout, centers, center_layout, radius, k)[0]


@torch.no_grad()
def ball_query_counts(
    pos: Tensor, layout: Layout, centers: Tensor, center_layout: Layout, radius: float, k: int
) -> tuple[Tensor, Tensor]:
    """(Mc, k) the indices of :func:`ball_query`, and (Mc,) how many of each row are distinct; the rest is padding.

    Arguments and errors are those of :func:`ball_query`.

    Example:
        >>> line, layout = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]), Layout(torch.tensor([0, 3]))
        >>> ball_query_counts(line, layout, line, layout, radius=1.0, k=3)[1].tolist()
        [2, 3, 2]
    """
    if not radius > 0 or k < 1:
        raise ConfigError(f"a ball query needs radius > 0 and k >= 1; found radius {radius} and k {k}")
    (ptr, num_points), (center_ptr, num_centers) = layout, center_layout
    check_pair("ball_query", pos, ptr, centers, center_ptr, num_points, num_centers)
    pos = as_float(pos)
    sizes = num_points, num_centers
    return _ball_query(pos, ptr.long(), centers.detach().to(pos), center_ptr.long(), float(radius), k, *sizes)
