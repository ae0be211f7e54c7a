"""Points grouped by the cells of a regular grid, and means over the groups."""

import math

import torch
from torch import Tensor

from geo3d.cloud import Layout
from geo3d.errors import CloudError, ConfigError
from geo3d.ops import native
from geo3d.ops.checks import common_size
from geo3d.ops.library import define
from geo3d.ops.search.farthest import as_float, check_shapes, check_values, padded

CELLS = 1 << 21
"""Most cells along one axis, so that the number of a cell fits into 63 bits."""

Groups = tuple[Tensor, Tensor, Tensor, Tensor]


def _lowest(pos: Tensor, ptr: Tensor, cloud: Tensor, num_points: int | None) -> Tensor:
    """(B, 3) the lowest corner of each cloud."""
    if num_points is not None:
        return padded(pos, ptr, num_points, 0.0).amin(1)
    empty = pos.new_full((len(ptr) - 1, 3), torch.inf)
    return empty.scatter_reduce(0, cloud[:, None].expand_as(pos), pos, "amin")


def _reference(pos: Tensor, ptr: Tensor, size: float, num_points: int | None) -> Groups:
    rows, clouds = len(pos), len(ptr) - 1
    cloud = torch.arange(clouds, device=ptr.device).repeat_interleave(ptr.diff(), output_size=rows)
    # Double precision, and the size as a tensor: for a plain number CUDA would multiply with its inverse.
    offset = pos.double() - _lowest(pos, ptr, cloud, num_points).double()[cloud]
    cell = (offset / torch.tensor(size, dtype=torch.float64, device=pos.device)).floor()
    if bool((cell >= CELLS).any()):
        raise _too_fine(size)
    x, y, z = cell.long().unbind(1)
    _, cell_id = torch.unique((x * CELLS + y) * CELLS + z, return_inverse=True)
    _, group, count = torch.unique(cloud * rows + cell_id, return_inverse=True, return_counts=True)
    place = torch.arange(rows, device=pos.device)
    first, order = torch.full_like(count, rows).scatter_reduce(0, group, place, "amin").sort()
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=pos.device))
    return rank[group], first, count[order], torch.searchsorted(first, ptr)


def _too_fine(size: float) -> CloudError:
    return CloudError(
        f"voxels of size {size} are too small: a cloud is more than {CELLS} of them wide; take larger ones"
    )


def _cpu(pos: Tensor, ptr: Tensor, size: float, num_points: int | None) -> Groups:
    what = "voxel_groups: pos or ptr"
    if not native.usable(pos):
        check_values(what, pos, ptr)
        return _reference(pos, ptr, size, common_size(ptr, num_points))
    rows, clouds = len(pos), len(ptr) - 1
    group, first, count = (ptr.new_empty(rows) for _ in range(3))
    group_ptr = torch.empty_like(ptr)
    width = torch.tensor(size, dtype=torch.float64)
    arrays = (pos.contiguous(), ptr.contiguous(), width, group, first, count, group_ptr)
    native.call("voxel_groups", rows, clouds, *arrays, what=what)
    groups = int(group_ptr[-1])
    if groups < 0:
        raise _too_fine(size)
    return group, first[:groups].clone(), count[:groups].clone(), group_ptr


def _fake(pos: Tensor, ptr: Tensor, size: float, num_points: int | None) -> Groups:
    groups = torch.library.get_ctx().new_dynamic_size()
    return ptr.new_empty(pos.shape[0]), ptr.new_empty(groups), ptr.new_empty(groups), torch.empty_like(ptr)


_voxel_groups = define(
    "voxel_groups(Tensor pos, Tensor ptr, float size, int? num_points) -> (Tensor, Tensor, Tensor, Tensor)",
    cpu=_cpu,
    cuda=_reference,
    fake=_fake,
)


@torch.no_grad()
def voxel_groups(pos: Tensor, layout: Layout, size: float) -> Groups:
    """Groups of the points in the same cell of a grid, which begins at each cloud's lowest coordinates.

    Groups are numbered over the whole batch, and in each cloud in the order in which they first occur. On a GPU the
    call waits for the result, because it must know the number of groups.

    Args:
        pos: (M, 3) points of all clouds, one after another.
        layout: Which of them belongs to which cloud.
        size: Edge of a cell, in units of ``pos``.

    Returns:
        group: (M,) the group of each point.
        first: (G,) the first point of each group.
        count: (G,) how many points it has.
        group_ptr: (B + 1,) offsets of the clouds' groups.

    Raises:
        ConfigError: If ``size`` is not positive.
        CloudError: If the points are not finite, offsets do not fit them, or a cloud is more than 2^21 cells wide.

    Example:
        >>> line = torch.tensor([[0.9, 0, 0], [0.0, 0, 0], [1.1, 0, 0], [0.2, 0, 0], [5.0, 0, 0]])
        >>> [part.tolist() for part in voxel_groups(line, Layout(torch.tensor([0, 4, 5])), size=0.5)]
        [[0, 1, 2, 1, 3], [0, 1, 2, 4], [1, 2, 1, 1], [0, 3, 4]]
    """
    if not 0 < size < math.inf:
        raise ConfigError(f"the size of voxels must be positive; found {size}")
    ptr, num_points = layout
    check_shapes("voxel_groups", pos, ptr, num_points)
    return _voxel_groups(as_float(pos), ptr.long(), float(size), num_points)


def voxel_mean(x: Tensor, group: Tensor, count: Tensor) -> Tensor:
    """(G, C) the mean of the rows of ``x`` (M, C) in each group, differentiable.

    Args:
        x: (M, C) coordinates or features.
        group: (M,) as :func:`voxel_groups` gives it.
        count: (G,) likewise.

    Example:
        >>> voxel_mean(torch.tensor([[1.0], [3.0], [7.0]]), torch.tensor([0, 0, 1]), torch.tensor([2, 1])).tolist()
        [[2.0], [7.0]]
    """
    return x.new_zeros(count.shape[0], x.shape[1]).index_add(0, group, x) / count[:, None].to(x.dtype)
