"""The principal axes of clouds: a frame that turns with the cloud."""

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.cloud import common_size
from geo3d.geometry.per_cloud import by_cloud, reduce_clouds


def principal_axes(centered: Tensor, batch: Batch) -> Tensor:
    """(B, 3, 3) rotations to the principal axes of each cloud; the first coordinate then varies most.

    The rows are the axes. Each of the first two points to the side on which the points reach farther, measured by the
    sum of their cubed coordinates; the third makes the rotation proper. Turning a cloud turns its axes with it, unless
    two variances are equal or the cloud is symmetric.

    Args:
        centered: (M, 3) points, with the mean of each cloud at the origin.
        batch: Which point belongs to which cloud.
    """
    size = common_size(batch)
    if size is not None:
        return equal_clouds_axes(centered.view(-1, size, 3))
    x, y, z = centered.double().unbind(1)
    products = torch.stack([x * x, x * y, x * z, y * y, y * z, z * z], 1)
    moments = reduce_clouds(products, batch, "mean")[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].view(-1, 3, 3)
    axes = _widest(moments)
    along = [by_cloud(torch.mul, centered.double(), axis, batch).sum(1, keepdim=True) for axis in axes.unbind(1)]
    return _pointed(axes, reduce_clouds(torch.cat(along, 1) ** 3, batch, "mean")).to(centered.dtype)


def equal_clouds_axes(centered: Tensor) -> Tensor:
    """(B, 3, 3) the rotations of :func:`principal_axes` for clouds of one size, ``centered`` (B, N, 3)."""
    wide = centered.double()
    axes = _widest(wide.mT @ wide)
    along = wide @ axes.mT
    return _pointed(axes, (along * along * along).sum(1)).to(centered.dtype)


def _widest(moments: Tensor) -> Tensor:
    """(B, 2, 3) the two axes along which the points vary most."""
    return torch.linalg.eigh(moments).eigenvectors.flip(2).mT[:, :2]  # eigh sorts from small to large


def _pointed(axes: Tensor, skew: Tensor) -> Tensor:
    """(B, 3, 3) proper rotations, with the signs of the two axes chosen by the sums of cubes along them (B, 2)."""
    axes = torch.where(skew[..., None] < 0, -axes, axes)
    third = torch.linalg.cross(axes[:, 0], axes[:, 1])
    return torch.cat([axes, third[:, None]], 1)


def sign_choices(like: Tensor) -> Tensor:
    """(4, 3, 3) the rotations that only change signs of coordinates, the identity first.

    Example:
        >>> sign_choices(torch.zeros(1)).diagonal(dim1=1, dim2=2).tolist()[1]
        [1.0, -1.0, -1.0]
    """
    signs = [(1.0, 1.0, 1.0), (1.0, -1.0, -1.0), (-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0)]
    return torch.diag_embed(like.new_tensor(signs))
