"""Pinhole cameras: pixels and depths to points, points to pixels, and poses.

A camera's axes are x right, y down and z forward. The centre of the pixel in column u and row v has the coordinates
(u, v), so the image reaches from -0.5 to width - 0.5.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from geo3d.errors import CloudError

RIGID = 1e-3
"""How far a pose may be from a rotation: files round its numbers to a few digits."""
AWAY = 0.15
"""How far a principal point may be from the middle of the image, as a fraction of the image's side."""


def backproject(depth: Tensor, intrinsic: Tensor) -> tuple[Tensor, Tensor]:
    """The points (N, 3) seen by the pixels of a depth image, in the camera's axes, and their pixels (N, 2).

    The depth of a point is its z, not its distance from the camera. A pixel with depth 0 has no point.

    Args:
        depth: (H, W) depths, 0 where nothing was measured. Points are in its unit and dtype.
        intrinsic: (3, 3) or (4, 4), the focal lengths and the principal point in pixels.

    Returns:
        The points row by row, and the column and row (u, v) int64 of each.

    Raises:
        CloudError: If a depth is negative or not finite, or the matrix is not that of a pinhole camera.

    Example:
        >>> pos, pixels = backproject(torch.tensor([[0.0, 2.0]]), torch.eye(3))
        >>> pos.tolist(), pixels.tolist()
        ([[2.0, 0.0, 2.0]], [[1, 0]])
    """
    if not bool(((depth >= 0) & depth.isfinite()).all()):
        raise CloudError("expected depths from 0 on, found negative, NaN or infinite ones")
    fx, fy, cx, cy = pinhole(intrinsic)
    v, u = depth.nonzero(as_tuple=True)
    z = depth[v, u]
    pos = torch.stack([(u.to(z.dtype) - cx) / fx * z, (v.to(z.dtype) - cy) / fy * z, z], 1)
    return pos, torch.stack([u, v], 1)


def project(pos: Tensor, intrinsic: Tensor) -> Tensor:
    """(N, 2) the pixel coordinates (u, v) of points in the camera's axes; NaN for points that are not before it.

    Args:
        pos: (N, 3) points, z forward.
        intrinsic: (3, 3) or (4, 4).
    """
    fx, fy, cx, cy = pinhole(intrinsic)
    x, y, z = pos.unbind(1)
    z = torch.where(z > 0, z, torch.nan)
    return torch.stack([x / z * fx + cx, y / z * fy + cy], 1)


def nearest_pixels(places: Tensor, width: int, height: int) -> tuple[Tensor, Tensor]:
    """(N, 2) int64 pixels (u, v) nearest to pixel coordinates, and (N,) whether each lies in the image.

    Pixels outside of the image, and those of NaN, are (0, 0).

    Example:
        >>> nearest_pixels(torch.tensor([[1.4, 0.0], [1.6, 0.0]]), 2, 1)
        (tensor([[1, 0],
            [0, 0]]), tensor([ True, False]))
    """
    limits = torch.tensor([width, height], dtype=places.dtype, device=places.device) - 0.5
    inside = ((places >= -0.5) & (places < limits)).all(1)
    nearest = (places + 0.5).floor()  # halves go up, so that the range above gives exactly the columns of the image
    return torch.where(inside[:, None], nearest, 0).long(), inside


def pinhole(intrinsic: Tensor) -> tuple[float, float, float, float]:
    """Focal lengths and principal point (fx, fy, cx, cy) of a camera matrix (3, 3) or (4, 4).

    Raises:
        CloudError: If a focal length is not above 0, a number is not finite, or an axis is skewed.
    """
    rows = intrinsic.tolist() if intrinsic.shape in ((3, 3), (4, 4)) else []
    if not rows or not bool(intrinsic.isfinite().all()):
        raise CloudError(f"expected a camera matrix (3, 3) or (4, 4) of finite numbers, found {intrinsic.tolist()}")
    fx, fy, cx, cy = rows[0][0], rows[1][1], rows[0][2], rows[1][2]
    plain = torch.eye(len(rows), dtype=intrinsic.dtype, device=intrinsic.device)
    plain[0, 0], plain[1, 1], plain[0, 2], plain[1, 2] = fx, fy, cx, cy
    if not (fx > 0 and fy > 0) or not torch.equal(plain, intrinsic):
        raise CloudError(f"expected a camera matrix with fx, fy above 0 and without skew, found {rows}")
    return fx, fy, cx, cy


def check_size(intrinsic: Tensor, width: int, height: int) -> None:
    """Check that a camera matrix fits an image of this size: its principal point lies near the middle.

    Depth and colour images often differ in size; the matrix of one gives wrong points with the other.

    Raises:
        CloudError: If the principal point is further from the middle than 0.15 of the side.
    """
    _, _, cx, cy = pinhole(intrinsic)
    if abs(cx - (width - 1) / 2) > AWAY * width or abs(cy - (height - 1) / 2) > AWAY * height:
        raise CloudError(
            f"the camera matrix is that of an image of about {2 * cx + 1:.0f}x{2 * cy + 1:.0f} pixels, the image has "
            f"{width}x{height}; give the matrix of this image"
        )


def resized(intrinsic: Tensor, size: tuple[int, int], new_size: tuple[int, int]) -> Tensor:
    """The camera matrix after the image was scaled from one (width, height) to another.

    Raises:
        CloudError: If the two sizes differ in shape by more than a hundredth: then the image was cropped, too.

    Example:
        >>> pinhole(resized(torch.tensor([[8.0, 0, 3.5], [0, 8, 2.5], [0, 0, 1]]), (8, 6), (16, 12)))
        (16.0, 16.0, 7.5, 5.5)
    """
    fx, fy, cx, cy = pinhole(intrinsic)
    across, down = new_size[0] / size[0], new_size[1] / size[1]
    if abs(across / down - 1) > 0.01:
        raise CloudError(f"expected an image of the shape {size[0]}x{size[1]}, found {new_size[0]}x{new_size[1]}")
    out = intrinsic.clone()
    out[0, 0], out[0, 2] = fx * across, (cx + 0.5) * across - 0.5
    out[1, 1], out[1, 2] = fy * down, (cy + 0.5) * down - 0.5
    return out


def is_rigid(pose: Tensor) -> bool:
    """Whether a matrix (4, 4) is a rotation and a shift, up to the rounding of files.

    Example:
        >>> is_rigid(torch.eye(4)), is_rigid(torch.zeros(4, 4)), is_rigid(torch.full((4, 4), -torch.inf))
        (True, False, False)
    """
    if pose.shape != (4, 4) or not bool(pose.isfinite().all()):
        return False
    pose = pose.double()
    rotation, eye = pose[:3, :3], torch.eye(4, dtype=torch.float64, device=pose.device)
    turns = (rotation @ rotation.T - eye[:3, :3]).abs().max() < RIGID and torch.linalg.det(rotation) > 0
    return bool(turns) and bool((pose[3] - eye[3]).abs().max() < RIGID)


def rigid(pose: Tensor) -> Tensor:
    """(4, 4) float64 the exact rotation and shift nearest to a pose that files have rounded.

    Raises:
        CloudError: If the pose is no rotation and shift.
    """
    if not is_rigid(pose):
        raise CloudError(f"expected a pose that is a rotation and a shift, found {pose.tolist()}")
    exact = torch.eye(4, dtype=torch.float64, device=pose.device)
    u, _, v = torch.linalg.svd(pose[:3, :3].double())
    exact[:3, :3], exact[:3, 3] = u @ v, pose[:3, 3].double()
    return exact


def to_world(pos: Tensor, pose: Tensor) -> Tensor:
    """(N, 3) points in the world's coordinates, in their own dtype: ``pose @ p`` for each point p of a camera.

    Args:
        pos: (N, 3) points in the camera's axes.
        pose: (4, 4) camera to world.
    """
    return (pos.double() @ pose[:3, :3].double().T + pose[:3, 3].double()).to(pos.dtype)


def to_camera(pos: Tensor, pose: Tensor) -> Tensor:
    """(..., 3) points in the axes of a camera with this pose (4, 4), from those in the world, in their own dtype."""
    return (pos - pose[:3, 3].to(pos)) @ pose[:3, :3].to(pos)


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
