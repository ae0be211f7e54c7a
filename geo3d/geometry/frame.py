"""Frames: for each cloud a similarity (4, 4) that maps its coordinates back to those of its source.

Code that changes the coordinates of a cloud for good, not only for a view, uses the functions here, which update
``frame``.
"""

import torch
from torch import Tensor
from torch_geometric.data import Data

from geo3d.cloud import map_fields
from geo3d.errors import CloudError


def similarity(linear: Tensor, shift: Tensor) -> Tensor:
    """(4, 4) float64 matrix of ``p -> linear @ p + shift``, for points as column vectors (x, y, z, 1).

    Example:
        >>> similarity(2 * torch.eye(3), torch.tensor([1.0, 0.0, 0.0]))[0].tolist()
        [2.0, 0.0, 0.0, 1.0]
    """
    matrix = torch.eye(4, dtype=torch.float64, device=linear.device)
    matrix[:3, :3], matrix[:3, 3] = linear.double(), shift.double()
    return matrix


def frame_of(cloud: Data) -> Tensor:
    """(4, 4) float64 the frame of one cloud; the identity if it has none."""
    if "frame" in cloud:
        return cloud.frame.reshape(4, 4)
    return torch.eye(4, dtype=torch.float64, device=cloud.pos.device)


def to_source(pos: Tensor, frame: Tensor) -> Tensor:
    """(N, 3) float64 points in the coordinates of the source.

    Args:
        pos: (N, 3) points in the coordinates of the cloud.
        frame: (4, 4) frame of the cloud.
    """
    return pos.double() @ frame[:3, :3].mT + frame[:3, 3]


def rescaled(cloud: Data, center: Tensor, scale: Tensor) -> Data:
    """The cloud with each position p replaced by ``(p - center) / scale``; its frame undoes the change.

    Args:
        cloud: One cloud; it is not changed.
        center: (3,).
        scale: (), above 0.
    """
    out = map_fields(
        cloud,
        {"position": lambda value, field: (value - center) / scale, "displacement": lambda value, field: value / scale},
    )
    out.frame = frame_of(cloud) @ similarity(scale * torch.eye(3, device=scale.device), center)
    return out


def placed(cloud: Data, rotation: Tensor, center: Tensor, scale: Tensor) -> Data:
    """The cloud turned by ``rotation``, then rescaled, in one step; the same values as in two, for less work.

    Args:
        cloud: One cloud; it is not changed.
        rotation: (3, 3), a rotation.
        center: (3,), in the coordinates of the turned cloud.
        scale: (), above 0.
    """
    out = map_fields(
        cloud,
        {
            "position": lambda value, field: (value @ rotation.T - center) / scale,
            "displacement": lambda value, field: value @ rotation.T / scale,
            "direction": lambda value, field: value @ rotation.T,
        },
    )
    back = rotation.double().T
    frame = similarity(scale * back, back @ center.double())
    out.frame = frame_of(cloud) @ frame if "frame" in cloud else frame
    return out


def turned(cloud: Data, rotation: Tensor) -> Data:
    """The cloud with positions, displacements and directions rotated by ``rotation (3, 3)``; its frame undoes it.

    Raises:
        CloudError: If the matrix is not orthogonal to six digits, so that its transpose would not undo it.
    """
    square = rotation.double() @ rotation.double().T
    if not bool((square - torch.eye(3, dtype=torch.float64, device=square.device)).abs().max() < 1e-5):
        raise CloudError(f"expected a rotation (3, 3), whose transpose is its inverse; found {rotation.tolist()}")
    kinds = ("position", "displacement", "direction")
    out = map_fields(cloud, dict.fromkeys(kinds, lambda value, field: value @ rotation.T))
    out.frame = frame_of(cloud) @ similarity(rotation.T, rotation.new_zeros(3))
    return out
