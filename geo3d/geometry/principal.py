"""The principal axes of clouds: a frame that turns with the cloud."""

import torch
from torch import Tensor
from torch_geometric.data import Batch

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
    x, y, z = centered.double().unbind(1)
    products = torch.stack([x * x, x * y, x * z, y * y, y * z, z * z], 1)
    moments = reduce_clouds(products, batch, "mean")[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].view(-1, 3, 3)
    axes = torch.linalg.eigh(moments).eigenvectors.flip(2).mT[:, :2]  # eigh sorts from small to large
    along = [by_cloud(torch.mul, centered.double(), axis, batch).sum(1, keepdim=True) for axis in axes.unbind(1)]
    skew = reduce_clouds(torch.cat(along, 1) ** 3, batch, "mean")
    axes = axes * torch.where(skew < 0, -1.0, 1.0)[..., None]
    third = torch.linalg.cross(axes[:, 0], axes[:, 1])
    return torch.cat([axes, third[:, None]], 1).to(centered.dtype)


def sign_choices(like: Tensor) -> Tensor:
    """(4, 3, 3) the rotations that only change signs of coordinates, the identity first.

    Example:
        >>> sign_choices(torch.zeros(1)).diagonal(dim1=1, dim2=2).tolist()[1]
        [1.0, -1.0, -1.0]
    """
    signs = [(1.0, 1.0, 1.0), (1.0, -1.0, -1.0), (-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0)]
    return torch.diag_embed(like.new_tensor(signs))
