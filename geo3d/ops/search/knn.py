"""Nearest neighbours inside each cloud, as ``neighbors`` (M, k) of flat indices.

Sizes: M points in all, B clouds, N points a cloud, C channels. Compiled kernels search on the CPU or a GPU;
:mod:`geo3d.ops.search.knn_reference` defines their result.
"""

import torch
from torch import Tensor

from geo3d.cloud import Layout
from geo3d.errors import CloudError
from geo3d.ops import native, triton
from geo3d.ops.checks import check_device, check_finite, check_form_of_offsets, check_offsets, common_size
from geo3d.ops.library import define
from geo3d.ops.search.knn_reference import chunks, search, select_smallest

__all__ = ["chunks", "degree", "knn", "knn_query", "select_smallest", "to_edge_index"]

TREE_FROM = 1536
"""Clouds with at least this many points, in up to three channels, are searched with a tree; for smaller ones computing
all distances was measured to be faster."""

MOST_ON_GPU = 256
"""Largest k for which the streaming search on a GPU is faster than sorting."""


def knn(x: Tensor, layout: Layout, k: int) -> Tensor:
    """(M, k) flat indices of the ``k`` nearest points of each point in its own cloud, itself included, nearest first.

    Equally near points come in the order of their indices. In a cloud of fewer than ``k`` points the neighbours are
    repeated cyclically. With up to three channels distances are sums of squared differences, so that duplicates have
    distance zero exactly. With more channels they come from a matrix product of the centred clouds, exact up to
    rounding; a point is then always its own first neighbour, even where it has duplicates.

    Args:
        x: (M, C) coordinates or features of all clouds, one after another.
        layout: Which row belongs to which cloud. On a CPU an unknown size is read off the offsets.
        k: Neighbours of each point, at least 1.

    Raises:
        CloudError: If ``k`` is smaller than 1 or ``x`` is not a matrix; on a CPU also if ``x`` holds NaN, infinite
            values or features too large to be squared, or if a cloud is empty.

    Example:
        >>> knn(torch.tensor([[0.0], [1.0], [3.0], [9.0]]), Layout(torch.tensor([0, 3, 4])), k=2).tolist()
        [[0, 1], [1, 0], [2, 1], [3, 3]]
    """
    ptr, size = layout
    _check(x, ptr, x, ptr, k)
    return _knn(x.detach(), ptr.long(), k, size)


def knn_query(x: Tensor, layout: Layout, y: Tensor, layout_y: Layout, k: int) -> Tensor:
    """(len(y), k) flat indices into ``x``: the points of the same cloud that are nearest to each row of ``y``.

    Ties, repetition and distances are as in :func:`knn`. But a query is not one of the points: beyond three channels no
    point is put first.

    Args:
        x: (M, C) points to search.
        layout: Which of them belongs to which cloud.
        y: (M', C) queries.
        layout_y: Which of them belongs to which cloud.
        k: Neighbours of each query, at least 1.

    Raises:
        CloudError: If ``k`` is smaller than 1 or the shapes do not fit; on a CPU also for values as in :func:`knn`.
    """
    (ptr_x, num_x), (ptr_y, num_y) = layout, layout_y
    _check(x, ptr_x, y, ptr_y, k)
    return _knn_query(x.detach(), ptr_x.long(), y.detach(), ptr_y.long(), k, num_x, num_y)


def _check(x: Tensor, ptr_x: Tensor, y: Tensor, ptr_y: Tensor, k: int) -> None:
    if k < 1:
        raise CloudError(f"k must be at least 1 neighbour; found {k}")
    for ptr in (ptr_x, ptr_y):
        check_form_of_offsets("the offsets of knn", ptr)
    check_device("the input of knn", x, ptr_x, y, ptr_y)
    if x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1] or x.shape[1] < 1 or len(ptr_x) != len(ptr_y):
        raise CloudError(
            f"neighbours need points (M, C) and queries (M', C) of equally many clouds; found {tuple(x.shape)} and "
            f"{tuple(y.shape)} in {len(ptr_x) - 1} and {len(ptr_y) - 1} clouds"
        )


def _searchable(x: Tensor) -> Tensor:
    return x.to(torch.float64 if x.dtype == torch.float64 else torch.float32).contiguous()


def _on_cpu(
    x: Tensor, ptr_x: Tensor, y: Tensor, ptr_y: Tensor, k: int, num_x: int | None, num_y: int | None, *, same: bool
) -> Tensor:
    what = "the input of knn" if same else "the input of knn_query"
    x = _searchable(x)
    y = x if same else _searchable(y)
    if native.usable(x, y):
        out = torch.empty(len(y), k, dtype=torch.int64)
        clouds, channels, ptr_x, ptr_y = len(ptr_x) - 1, x.shape[1], ptr_x.contiguous(), ptr_y.contiguous()
        native.call(
            "knn", clouds, channels, k, int(same), len(x), x, ptr_x, len(y), y, ptr_y, TREE_FROM, out, what=what
        )
        return out
    check_offsets(what, ptr_x, len(x))
    check_offsets(what, ptr_y, len(y))
    check_finite(what, x, y)
    check_finite(what, *_squared_norms(x, ptr_x, y, ptr_y))
    return search(x, ptr_x, y, ptr_y, k, common_size(ptr_x, num_x), common_size(ptr_y, num_y), same=same)


def _squared_norms(x: Tensor, ptr_x: Tensor, y: Tensor, ptr_y: Tensor) -> tuple[Tensor, ...]:
    """16 |x - mean of its cloud|^2 for float32 features, else (): infinite where the kernels' sums may overflow."""
    if x.shape[1] <= 3 or x.dtype != torch.float32:
        return ()
    sizes = ptr_x.diff()
    cloud_x, cloud_y = (torch.arange(len(sizes)).repeat_interleave(ptr.diff()) for ptr in (ptr_x, ptr_y))
    sums = torch.zeros(len(sizes), x.shape[1], dtype=torch.float64).index_add_(0, cloud_x, x.double())
    center = (sums / sizes[:, None]).float()
    return tuple(
        16 * (values - center[cloud]).square().sum(1)  # the kernels' margin
        for values, cloud in ((x, cloud_x), (y, cloud_y))
    )


def _knn_on_cpu(x: Tensor, ptr: Tensor, k: int, num_points: int | None = None) -> Tensor:
    return _on_cpu(x, ptr, x, ptr, k, num_points, num_points, same=True)


def _knn_on_cuda(x: Tensor, ptr: Tensor, k: int, num_points: int | None = None) -> Tensor:
    x = _searchable(x)
    if triton.available() and x.dtype == torch.float32 and k <= MOST_ON_GPU:
        from geo3d.ops.triton.knn import knn as streaming

        return streaming(x, ptr, k)
    return search(x, ptr, x, ptr, k, num_points, num_points, same=True)


_knn = define(
    "knn(Tensor x, Tensor ptr, int k, int? num_points=None) -> Tensor",
    cpu=_knn_on_cpu,
    cuda=_knn_on_cuda,
    fake=lambda x, ptr, k, num_points=None: x.new_empty(x.shape[0], k, dtype=torch.int64),
)


def _query_on_cpu(
    x: Tensor, ptr_x: Tensor, y: Tensor, ptr_y: Tensor, k: int, num_x: int | None = None, num_y: int | None = None
) -> Tensor:
    return _on_cpu(x, ptr_x, y, ptr_y, k, num_x, num_y, same=False)


def _query_on_cuda(
    x: Tensor, ptr_x: Tensor, y: Tensor, ptr_y: Tensor, k: int, num_x: int | None = None, num_y: int | None = None
) -> Tensor:
    return search(_searchable(x), ptr_x, _searchable(y), ptr_y, k, num_x, num_y, same=False)


_knn_query = define(
    "knn_query(Tensor x, Tensor ptr_x, Tensor y, Tensor ptr_y, int k, int? num_x=None, int? num_y=None) -> Tensor",
    cpu=_query_on_cpu,
    cuda=_query_on_cuda,
    fake=lambda x, ptr_x, y, ptr_y, k, num_x=None, num_y=None: x.new_empty(y.shape[0], k, dtype=torch.int64),
)


def to_edge_index(neighbors: Tensor) -> Tensor:
    """(2, M * k) the edges of ``neighbors`` (M, k) as in PyG: from each neighbour (row 0) to its point (row 1).

    Example:
        >>> to_edge_index(torch.tensor([[0, 1], [1, 0]])).tolist()
        [[0, 1, 1, 0], [0, 0, 1, 1]]
    """
    target = torch.arange(neighbors.shape[0], device=neighbors.device).repeat_interleave(neighbors.shape[1])
    return torch.stack([neighbors.flatten(), target])


def degree(neighbors: Tensor, num_points: int) -> Tensor:
    """(num_points,) int64: how often each point is a neighbour.

    Example:
        >>> degree(torch.tensor([[0, 1], [1, 1]]), 2).tolist()
        [1, 3]
    """
    return torch.bincount(neighbors.flatten(), minlength=num_points)
