"""What a pinhole camera sees of triangles."""

import torch
from torch import Tensor

from geo3d.errors import CloudError
from geo3d.ops import native
from geo3d.ops.checks import check_finite
from geo3d.ops.library import define

TILE = 16
"""Rows and columns of pixels that the reference computes at once."""


def _planes(corner: Tensor) -> tuple[Tensor, Tensor]:
    """(F, 3, 3) normals of the planes through the eye and each edge, and (F,) volumes; without fused products."""
    a, b = corner[:, [1, 2, 0]], corner[:, [2, 0, 1]]
    (ax, ay, az), (bx, by, bz) = a.unbind(2), b.unbind(2)
    normal = torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], 2)
    first = corner[:, 0] * normal[:, 0]
    return normal, first[:, 0] + first[:, 1] + first[:, 2]


def _boxes(corner: Tensor, height: int, width: int, camera: Tensor) -> Tensor:
    """(F, 4) left, right, top and bottom of the pixels that may see each triangle."""
    depth = corner[:, :, 2]
    place = camera[:2] * (corner[:, :, :2] / depth[:, :, None]) + camera[2:]
    low, high = place.amin(1).floor(), place.amax(1).ceil()
    box = torch.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], 1)
    everything = box.new_tensor([0, width - 1, 0, height - 1])
    box = torch.where((depth <= 0).any(1, keepdim=True), everything, box)  # its outline is not bounded
    return torch.where((depth <= 0).all(1, keepdim=True), box.new_tensor([0, -1, 0, -1]), box)


def _reference(corner: Tensor, height: int, width: int, camera: Tensor) -> tuple[Tensor, Tensor]:
    exact, camera = corner.double(), camera.to(corner.device)
    normal, det = _planes(exact)
    box = _boxes(exact, height, width, camera)
    depth = torch.zeros(height, width, dtype=torch.float32, device=corner.device)
    face = torch.full((height, width), -1, device=corner.device)
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            v = torch.arange(top, min(top + TILE, height), device=corner.device)
            u = torch.arange(left, min(left + TILE, width), device=corner.device)
            met = (box[:, 0] <= u[-1]) & (box[:, 1] >= u[0]) & (box[:, 2] <= v[-1]) & (box[:, 3] >= v[0])
            index = (met & (det != 0)).nonzero()[:, 0]
            if not len(index):
                continue
            x, y = (u.double() - camera[2]) / camera[0], (v.double() - camera[3]) / camera[1]
            n = normal[index][:, :, :, None, None]
            side = n[:, :, 0] * x + n[:, :, 1] * y[:, None] + n[:, :, 2]  # (F, 3, V, U)
            own = det[index][:, None, None]
            inside = torch.where(own > 0, side.amin(1) >= 0, side.amax(1) <= 0)
            z = torch.where(inside, own / (side[:, 0] + side[:, 1] + side[:, 2]), torch.inf)
            nearest, place = z.min(0)  # of equally near ones the first
            seen = nearest < torch.inf
            depth[top : top + len(v), left : left + len(u)] = torch.where(seen, nearest, 0.0).float()
            face[top : top + len(v), left : left + len(u)] = torch.where(seen, index[place], -1)
    return depth, face


def _cpu(corner: Tensor, height: int, width: int, camera: Tensor) -> tuple[Tensor, Tensor]:
    if not native.usable(corner):
        check_finite("depth_image: corner", corner)
        return _reference(corner, height, width, camera)
    depth, face = torch.empty(height, width, dtype=torch.float32), torch.empty(height, width, dtype=torch.int64)
    arrays = (corner.contiguous(), camera.contiguous(), depth, face)
    native.call("depth_image", len(corner), height, width, *arrays, what="depth_image: corner")
    return depth, face


def _fake(corner: Tensor, height: int, width: int, camera: Tensor) -> tuple[Tensor, Tensor]:
    return corner.new_empty(height, width), corner.new_empty(height, width, dtype=torch.int64)


_depth_image = define(
    "depth_image(Tensor corner, int height, int width, Tensor camera) -> (Tensor, Tensor)",
    cpu=_cpu,
    cuda=_reference,
    fake=_fake,
)


@torch.no_grad()
def depth_image(
    corner: Tensor, height: int, width: int, focal: tuple[float, float], center: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """(height, width) depth of the nearest triangle in each pixel, and its number; 0 and -1 where there is none.

    The ray through the middle of pixel (u, v) meets the plane z = 1 at ((u - cx) / fx, (v - cy) / fy); depth is the
    coordinate z of the point. Both sides of a triangle are seen. Of equally near triangles the first counts.

    Args:
        corner: (F, 3, 3) corners of the triangles in the camera's axes: x right, y down, z forward.
        height: Rows of the image.
        width: Columns of the image.
        focal: fx and fy, in pixels.
        center: cx and cy, in pixels.

    Raises:
        CloudError: If the corners have another shape or are not finite, or the image has no pixel.

    Example:
        >>> wall = torch.tensor([[[-9.0, -9.0, 2.0], [9.0, -9.0, 2.0], [0.0, 9.0, 2.0]]])
        >>> depth, face = depth_image(wall, 2, 3, focal=(2.0, 2.0), center=(1.0, 0.5))
        >>> depth.unique().tolist(), face.unique().tolist()
        ([2.0], [0])
    """
    if corner.dim() != 3 or corner.shape[1:] != (3, 3) or not corner.is_floating_point():
        raise CloudError(f"depth_image: corner must be floats (F, 3, 3); found {corner.dtype} {tuple(corner.shape)}")
    camera = torch.tensor([*focal, *center], dtype=torch.float64)
    if height < 1 or width < 1 or not bool(camera.isfinite().all()) or not bool((camera[:2] > 0).all()):
        raise CloudError(
            f"depth_image: expected an image of at least one pixel and focal lengths above 0; found {height} x "
            f"{width}, {focal} and {center}"
        )
    return _depth_image(corner.float(), height, width, camera)
