"""Interpolation of features from a few centres to all points by inverse squared distance.

See arXiv:1706.02413, section 3.4.
"""

import torch
from torch import Tensor

from geo3d.cloud import Layout
from geo3d.ops import native
from geo3d.ops.checks import common_size
from geo3d.ops.library import define
from geo3d.ops.search.ball import check_pair, check_pair_values, squared_distances
from geo3d.ops.search.farthest import as_float, padded_rows

Tables = tuple[Tensor, Tensor]


def _reference(
    pos: Tensor, ptr: Tensor, centers: Tensor, center_ptr: Tensor, num_points: int | None, num_centers: int | None
) -> Tables:
    size = num_points if num_points is not None else int(ptr.diff().max())
    index = torch.empty(len(ptr) - 1, size, 3, dtype=torch.long, device=pos.device)
    weight = torch.empty(index.shape, dtype=pos.dtype, device=pos.device)
    # Here the points are the queries, and the search is among the centres.
    for b, s, distance in squared_distances(centers, center_ptr, pos, ptr, num_centers, num_points):
        for j in range(3):
            nearest = distance.argmin(2, keepdim=True)
            index[b, s, j : j + 1] = nearest
            weight[b, s, j : j + 1] = 1.0 / (distance.gather(2, nearest) + 1e-8)
            distance.scatter_(2, nearest, torch.inf)
    index += center_ptr[:-1, None, None]
    weight /= weight.sum(2, keepdim=True)
    index, weight = index.view(-1, 3), weight.view(-1, 3)
    if num_points is not None:
        return index, weight
    rows = padded_rows(ptr, size, len(pos))
    return index[rows], weight[rows]


def _cpu(
    pos: Tensor, ptr: Tensor, centers: Tensor, center_ptr: Tensor, num_points: int | None, num_centers: int | None
) -> Tables:
    what = "three_nearest: pos, centers or their offsets"
    if not native.usable(pos, centers):
        check_pair_values(what, pos, ptr, centers, center_ptr)
        sizes = common_size(ptr, num_points), common_size(center_ptr, num_centers)
        return _reference(pos, ptr, centers, center_ptr, *sizes)
    index, weight = ptr.new_empty(pos.shape), pos.new_empty(pos.shape)
    arrays = (t.contiguous() for t in (pos, ptr, centers, center_ptr))
    native.call("three_nearest", len(pos), len(centers), len(ptr) - 1, *arrays, index, weight, what=what)
    return index, weight


def _fake(pos: Tensor, ptr: Tensor, centers: Tensor, center_ptr: Tensor, *sizes: int | None) -> Tables:
    return ptr.new_empty(pos.shape), pos.new_empty(pos.shape)


_three_nearest = define(
    "three_nearest(Tensor pos, Tensor ptr, Tensor centers, Tensor center_ptr, int? num_points, int? num_centers) "
    "-> (Tensor, Tensor)",
    cpu=_cpu,
    cuda=_reference,
    fake=_fake,
)


@torch.no_grad()
def three_nearest(pos: Tensor, layout: Layout, centers: Tensor, center_layout: Layout) -> tuple[Tensor, Tensor]:
    """(M, 3) flat indices of the three centres nearest to each point, and (M, 3) weights that sum to one.

    The weights are the published ones, proportional to 1 / (squared distance + 1e-8), and are held constant in the
    backward pass. Ties go to the lower index. In a cloud with fewer than three centres these share the weight, and the
    remaining indices have weight 0.

    Args:
        pos: (M, 3) points of all clouds, one after another.
        layout: Which of them belongs to which cloud.
        centers: (Mc, 3) positions of the centres of all clouds, one after another.
        center_layout: Which of them belongs to which cloud.

    Raises:
        CloudError: If points or centres are not finite, or offsets do not fit them (on a GPU: if shapes do not).

    Example:
        >>> ends, layout = torch.tensor([[0.0, 0, 0], [2, 0, 0]]), Layout(torch.tensor([0, 2]))
        >>> index, weight = three_nearest(torch.tensor([[1.0, 0, 0]]), Layout(torch.tensor([0, 1])), ends, layout)
        >>> index.tolist(), weight.tolist()
        ([[0, 1, 0]], [[0.5, 0.5, 0.0]])
    """
    (ptr, num_points), (center_ptr, num_centers) = layout, center_layout
    check_pair("three_nearest", pos, ptr, centers, center_ptr, num_points, num_centers)
    points = as_float(pos)
    centers = centers.detach().to(points)
    index, weight = _three_nearest(points, ptr.long(), centers, center_ptr.long(), num_points, num_centers)
    return index, weight.to(pos.dtype)


def interpolate(features: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """(M, C) the weighted sum of the rows ``index`` (M, k) of ``features`` (Mc, C), differentiable in the features."""
    return torch.nn.functional.embedding_bag(index, features, per_sample_weights=weight.to(features.dtype), mode="sum")
