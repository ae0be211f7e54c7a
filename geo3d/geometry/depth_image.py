"""Depth images as points, and the neighbours of their pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_points(depth: Tensor, focal: tuple[float, float], center: tuple[float, float]) -> Tensor:
    """(H, W, 3) the point of each pixel in the camera's axes: x right, y down, z forward.

    Args:
        depth: (H, W) coordinates z.
        focal: fx and fy, in pixels.
        center: cx and cy, the pixel on the camera's axis.

    Example:
        >>> pixel_points(torch.full((1, 3), 2.0), focal=(1.0, 1.0), center=(1.0, 0.0))[0].tolist()
        [[-2.0, 0.0, 2.0], [0.0, 0.0, 2.0], [2.0, 0.0, 2.0]]
    """
    height, width = depth.shape
    x = (torch.arange(width, dtype=depth.dtype, device=depth.device) - center[0]) / focal[0]
    y = (torch.arange(height, dtype=depth.dtype, device=depth.device) - center[1]) / focal[1]
    return torch.stack([x.expand_as(depth) * depth, y[:, None].expand_as(depth) * depth, depth], 2)


def neighbor_range(image: Tensor) -> tuple[Tensor, Tensor]:
    """(H, W) smallest and largest value among each pixel and its eight neighbours."""
    padded = F.pad(image[None, None], (1, 1, 1, 1), mode="replicate")
    high = F.max_pool2d(padded, 3, stride=1)[0, 0]
    low = -F.max_pool2d(-padded, 3, stride=1)[0, 0]
    return low, high


def bend(image: Tensor) -> Tensor:
    """(H, W) the larger of the second differences of an image along its rows and its columns, without sign.

    That of ``1 / depth`` is 0 on every plane, however steep, and large at silhouettes. It is 0 across the border.
    """
    out = torch.zeros_like(image)
    along = (image[:, :-2] + image[:, 2:] - 2 * image[:, 1:-1]).abs()
    down = (image[:-2] + image[2:] - 2 * image[1:-1]).abs()
    out[:, 1:-1] = along
    out[1:-1] = torch.maximum(out[1:-1], down)
    return out


def shifted(offset: Tensor) -> Tensor:
    """(H, W) flat index of the pixel nearest to each one's place plus ``offset`` (2, H, W), columns then rows.

    Places outside of the image become the nearest pixel in it.
    """
    _, height, width = offset.shape
    u = (torch.arange(width) + offset[0]).round().long().clamp(0, width - 1)
    v = (torch.arange(height)[:, None] + offset[1]).round().long().clamp(0, height - 1)
    return v * width + u
