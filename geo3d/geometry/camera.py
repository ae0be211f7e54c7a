"""Pinhole cameras: points of depth images, and poses that look at something."""

import torch
import torch.nn.functional as F
from torch import Tensor


def back_project(depth: Tensor, focal: tuple[float, float], center: tuple[float, float]) -> Tensor:
    """(H, W, 3) the point of each pixel in the camera's axes: x right, y down, z forward.

    Args:
        depth: (H, W) coordinates z.
        focal: fx and fy, in pixels.
        center: cx and cy, the pixel on the camera's axis.

    Example:
        >>> back_project(torch.full((1, 3), 2.0), focal=(1.0, 1.0), center=(1.0, 0.0))[0].tolist()
        [[-2.0, 0.0, 2.0], [0.0, 0.0, 2.0], [2.0, 0.0, 2.0]]
    """
    height, width = depth.shape
    x = (torch.arange(width, dtype=depth.dtype, device=depth.device) - center[0]) / focal[0]
    y = (torch.arange(height, dtype=depth.dtype, device=depth.device) - center[1]) / focal[1]
    return torch.stack([x.expand_as(depth) * depth, y[:, None].expand_as(depth) * depth, depth], 2)


def looking(eye: Tensor, target: Tensor) -> Tensor:
    """(4, 4) pose, from the camera's axes to the world's, of an upright camera at ``eye`` (3,) that looks at a point.

    The picture's upper side is up, along the world's z. The view must not be vertical.

    Example:
        >>> pose = looking(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([2.0, 0.0, 1.0]))
        >>> (pose[:3, :3] @ torch.tensor([0.0, 0.0, 1.0])).tolist(), (pose[:3, 1]).tolist()
        ([1.0, 0.0, 0.0], [0.0, 0.0, -1.0])
    """
    forward = F.normalize(target - eye, dim=0)
    right = F.normalize(torch.linalg.cross(forward, forward.new_tensor([0.0, 0.0, 1.0])), dim=0)
    pose = torch.eye(4, dtype=eye.dtype)
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, torch.linalg.cross(forward, right), forward
    pose[:3, 3] = eye
    return pose


def to_world(pos: Tensor, pose: Tensor) -> Tensor:
    """The points (..., 3) in the world, from those in the axes of a camera with this pose (4, 4)."""
    return pos @ pose[:3, :3].T + pose[:3, 3]


def to_camera(pos: Tensor, pose: Tensor) -> Tensor:
    """The points (..., 3) in the axes of a camera with this pose (4, 4), from those in the world."""
    return (pos - pose[:3, 3]) @ pose[:3, :3]


def neighbor_range(image: Tensor) -> tuple[Tensor, Tensor]:
    """(H, W) smallest and largest value among each pixel and its eight neighbours."""
    padded = F.pad(image[None, None], (1, 1, 1, 1), mode="replicate")
    high = F.max_pool2d(padded, 3, stride=1)[0, 0]
    low = -F.max_pool2d(-padded, 3, stride=1)[0, 0]
    return low, high


def shifted(offset: Tensor) -> Tensor:
    """(H, W) flat index of the pixel nearest to each one's place plus ``offset`` (2, H, W), columns then rows.

    Places outside of the image become the nearest pixel in it.
    """
    _, height, width = offset.shape
    u = (torch.arange(width) + offset[0]).round().long().clamp(0, width - 1)
    v = (torch.arange(height)[:, None] + offset[1]).round().long().clamp(0, height - 1)
    return v * width + u
