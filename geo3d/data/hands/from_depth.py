"""Hands cut out of depth pictures: pixels to points, and the cube around the hand."""

import math
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geo3d.checks import OneOf, Range
from geo3d.errors import CloudError
from geo3d.geometry.depth_image import pixel_points
from geo3d.io.image import read_integers
from geo3d.pose_metrics import MILLIMETRES

NEAREST = 0.01
"""Fraction of the points that may be nearer than the hand: flying pixels."""

Cut = Annotated[float, Range(0.01, 1)]
"""Half the side of the cube around a hand, in metres."""
Center = Annotated[str, OneOf("joints", "points")]
"""The middle of the cube: the mean of the true joints, or the mass of points nearest to the camera."""


class Camera(NamedTuple):
    """A pinhole camera: focal lengths and principal point, in pixels."""

    fx: float
    fy: float
    cx: float
    cy: float


def hand_cloud(depth: Tensor, camera: Camera, joints: Tensor, cut: float, center: str, source: str) -> Data:
    """``pos`` (N, 3), the points in a cube around the hand, and ``joints`` (J, 3), in metres in the camera's axes.

    Args:
        depth: (H, W) float32 metres, 0 where nothing was measured.
        camera: The camera of this picture.
        joints: (J, 3) float32 true joints.
        cut: Half the side of the cube.
        center: ``joints``: the cube is around the mean of the joints. ``points``: around :func:`nearest_mass`.
        source: The file, for messages.

    Raises:
        CloudError: If a joint is not finite, the picture or the camera makes no sense, or no point is in the cube.
    """
    bad = int((~joints.isfinite()).any(1).sum())
    if bad:
        raise CloudError(f"{source}: {bad} of {len(joints)} joints are NaN or infinite; mend or remove this frame")
    pos = cloud_of_depth(depth, camera, source)
    middle = joints.mean(0) if center == "joints" else nearest_mass(pos)
    return Data(pos=pos[cropped(pos, middle, cut, source)], joints=joints)


def metres(path: Path, width: int, height: int) -> Tensor:
    """(H, W) float32 depths in metres, from a PNG file of one channel of 16 bits in millimetres.

    Raises:
        CloudError: If the file is missing, damaged, or not a picture of this kind and size.
    """
    depth = read_integers(path, 16)
    check_size(depth.shape, width, height, path)
    return torch.from_numpy(depth.astype(np.float32)) / MILLIMETRES


def check_size(shape: tuple[int, ...], width: int, height: int, path: Path) -> None:
    """Check that a picture (H, W, ...) has the size that the camera's numbers belong to.

    Raises:
        CloudError: If it has another one.
    """
    if shape[:2] != (height, width):
        raise CloudError(f"{path}: expected a picture of {width}x{height} pixels, found {shape[1]}x{shape[0]}")


def cloud_of_depth(depth: Tensor, camera: Camera, source: str) -> Tensor:
    """(N, 3) points of all pixels with a depth, row by row, in the camera's axes: x right, y down, z forward.

    Args:
        depth: (H, W) floats, coordinates z in metres, 0 where nothing was measured.
        camera: The camera of this picture.
        source: The file, for messages.

    Raises:
        CloudError: If no pixel has a depth, a depth is negative or not finite, or the camera cannot be right.

    Example:
        >>> cloud_of_depth(torch.tensor([[0.0, 2.0]]), Camera(1.0, 1.0, 0.0, 0.0), "a.png").tolist()
        [[2.0, 0.0, 2.0]]
    """
    check_camera(camera, depth.shape[1], depth.shape[0], source)
    least, most = map(float, depth.aminmax()) if depth.numel() else (0.0, 0.0)  # NaN if there is one
    if not 0 <= least <= most < math.inf:
        raise CloudError(f"{source}: expected depths from 0 on, found negative, NaN or infinite ones; file is damaged")
    if most == 0:
        raise CloudError(f"{source}: all {depth.numel()} depths are 0, so there is no point; remove this frame")
    return pixel_points(depth, (camera.fx, camera.fy), (camera.cx, camera.cy))[depth > 0]


def check_camera(camera: Camera, width: int, height: int, source: str) -> None:
    """Check that a camera can have taken a picture of this size.

    Raises:
        CloudError: If a number is not finite, a focal length is not above 0, or the principal point lies more than one
            width or height outside of the picture.
    """
    lenses = all(map(math.isfinite, camera)) and min(camera.fx, camera.fy) > 0
    if lenses and -width <= camera.cx <= 2 * width and -height <= camera.cy <= 2 * height:
        return
    numbers = ", ".join(f"{name} {value:g}" for name, value in camera._asdict().items())
    raise CloudError(
        f"{source}: wrong intrinsics: expected focal lengths above 0 and a principal point near the picture of "
        f"{width}x{height} pixels; found {numbers}"
    )


def cropped(pos: Tensor, center: Tensor, cut: float, source: str) -> Tensor:
    """(n,) rows of the points inside the cube of half side ``cut`` around ``center`` (3,).

    Raises:
        CloudError: If there is none.

    Example:
        >>> cropped(torch.tensor([[0.0, 0, 1], [0.0, 0, 3]]), torch.tensor([0.0, 0, 1.1]), 0.2, "a.png").tolist()
        [0]
    """
    rows = ((pos - center).abs() <= cut).all(1).nonzero()[:, 0]
    if not len(rows):
        low, high = (_triple(corner) for corner in (pos.amin(0), pos.amax(0)))
        raise CloudError(
            f"{source}: no point within {cut:g} m of {_triple(center)}, the middle of the cube; the {len(pos)} points "
            f"lie from {low} to {high}; check units and intrinsics"
        )
    return rows


def nearest_mass(pos: Tensor, depth: float = 0.25) -> Tensor:
    """(3,) the middle of what is nearest to the camera, for a hand whose place is not known.

    That is the mean of the points at most ``depth`` behind the nearest ones, and then the mean of the points in a cube
    of that side around it. The nearest 1 % of all points do not count as nearest, as some pixels at silhouettes measure
    a depth where nothing is. A hand must be in front of everything else, which is what published detectors assume.

    Args:
        pos: (N, 3) points in the camera's axes, in metres.
        depth: The extent of a hand, in metres.

    Example:
        >>> nearest_mass(torch.tensor([[0.0, 0.0, 0.5], [0.1, 0.0, 0.5], [0.0, 0.0, 2.0]])).tolist()
        [0.05000000074505806, 0.0, 0.5]
    """
    z = pos[:, 2]
    nearest = z.kthvalue(1 + int(NEAREST * (len(z) - 1))).values
    center = pos[(z >= nearest) & (z <= nearest + depth)].mean(0)
    inside = ((pos - center).abs() <= depth / 2).all(1)
    return pos[inside].mean(0) if bool(inside.any()) else center


def _triple(values: Tensor) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values.tolist()) + ")"
