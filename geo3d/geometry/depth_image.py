"""Depth images as points, and the neighbours of their pixels."""

from collections.abc import Callable

import torch
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
    return _nearby(image, torch.minimum), _nearby(image, torch.maximum)


def _nearby(image: Tensor, choose: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(H, W) what ``choose`` leaves of each pixel and its eight neighbours; row by row, then column by column."""
    for _ in range(2):
        out = image.clone()
        out[1:] = choose(out[1:], image[:-1])
        out[:-1] = choose(out[:-1], image[1:])
        image = out.T
    return image


def grown(mask: Tensor, reach: int) -> Tensor:
    """(H, W) bool, whether a pixel of the mask lies in the square of ``2 reach + 1`` pixels around each pixel.

    Example:
        >>> grown(torch.tensor([[False, False, True, False]]), 1).tolist()
        [[False, True, True, True]]
    """
    for _ in range(2):
        near = mask.clone()
        for step in range(1, min(reach, len(mask) - 1) + 1):
            near[step:] |= mask[:-step]
            near[:-step] |= mask[step:]
        mask = near.T
    return mask


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
