"""One frame of a scan, and the cloud that it shows."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from geo3d.cloud import check_cloud
from geo3d.data.scannet.labels import class_of
from geo3d.errors import CloudError
from geo3d.geometry.camera import backproject, check_size, nearest_pixels, project, resized, rigid, to_world

TO_Z_UP = torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
"""From the camera's axes (x right, y down, z forward) to x right, y forward, z up."""
CLASS_OF = torch.tensor([class_of(number) for number in range(256)])
"""The class of each NYU40 number in a label image."""
SMALL = 8192
"""Most bytes of a compressed depth image without any depth; one with depths is larger, unless the image is tiny."""
SAME = 1e-3
"""How far an extrinsic matrix may be from the identity."""


class View(NamedTuple):
    """The images of one frame, and the cameras that took them."""

    depth: Tensor
    """(H, W) float32 metres, 0 where nothing was measured."""
    intrinsic: Tensor
    """(4, 4) of the depth camera."""
    pose: Tensor
    """(4, 4) camera to world."""
    colors: Tensor | None
    """(H', W', 3) uint8, of another size than the depth."""
    labels: Tensor | None
    """(H'', W'') uint8 NYU40 numbers, seen by the colour camera."""
    color_intrinsic: Tensor
    """(4, 4) of the colour camera."""
    color_size: tuple[int, int]
    """Width and height of the images that ``color_intrinsic`` belongs to."""


def cloud_of(view: View, coordinates: str, source: str) -> Data:
    """``pos`` (N, 3) in metres, z up, with ``rgb`` and ``point_y`` where the frame has colours and labels.

    With colours, points that the colour camera does not see are left out. Points outside of the label image have no
    label.

    Args:
        view: The frame.
        coordinates: ``world``: those of the scene's mesh. ``camera``: the camera at the origin, x right, y forward, z
            up; ``frame`` leads back to the world.
        source: The frame's file, for messages.

    Raises:
        CloudError: If there is no point, or a camera does not fit its image.
    """
    try:
        check_size(view.intrinsic, view.depth.shape[1], view.depth.shape[0])
        pos, _ = backproject(view.depth, view.intrinsic)
        cloud = _coloured(pos, view)
        if view.labels is not None:
            cloud.point_y = _labels(cloud.pos, view.labels, view)
    except CloudError as error:
        raise CloudError(f"{source}: {error}") from None
    pose = rigid(view.pose)
    if coordinates == "world":
        cloud.pos = to_world(cloud.pos, pose)
    else:
        cloud.pos = to_world(cloud.pos, TO_Z_UP)
        cloud.frame = pose @ TO_Z_UP.T
    check_cloud(cloud.pos, source)
    return cloud


def _coloured(pos: Tensor, view: View) -> Data:
    """The points that the colour camera sees, with their colours; all points if there is no colour image."""
    if view.colors is None:
        return Data(pos=pos)
    height, width = view.colors.shape[:2]
    check_size(view.color_intrinsic, width, height)
    pixels, inside = nearest_pixels(project(pos, view.color_intrinsic), width, height)
    u, v = pixels[inside].unbind(1)
    return Data(pos=pos[inside], rgb=view.colors[v, u].float() / 255)


def _labels(pos: Tensor, labels: Tensor, view: View) -> Tensor:
    """(N,) the class of each point in the label image, -1 for none."""
    height, width = labels.shape
    intrinsic = resized(view.color_intrinsic, view.color_size, (width, height))
    check_size(intrinsic, width, height)
    pixels, inside = nearest_pixels(project(pos, intrinsic), width, height)
    u, v = pixels.unbind(1)
    return torch.where(inside, CLASS_OF[labels[v, u].long()], -1)


def check_extrinsic(matrix: Tensor, camera: str, source: str) -> None:
    """Check that the poses of a scan are those of a camera.

    Raises:
        CloudError: If the camera's extrinsic matrix is not the identity: what it means then differs between programs.
    """
    if not bool((matrix - torch.eye(4, dtype=matrix.dtype)).abs().max() < SAME):  # true for NaN
        cure = "; give color=false" if camera == "colour" else ""
        raise CloudError(
            f"{source}: expected that the poses are those of the {camera} camera, found the extrinsic matrix "
            f"{matrix.tolist()}{cure}"
        )
