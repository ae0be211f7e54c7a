"""Rotation of clouds whose files have y up, so that z points up."""

import torch
from torch import Tensor
from torch_geometric.data import Data

from geo3d.cloud import map_fields
from geo3d.errors import ConfigError
from geo3d.geometry.frame import frame_of, similarity


def check_up(up: str) -> None:
    """Check that ``up`` is "y" or "z".

    Raises:
        ConfigError: If it is not.
    """
    if up not in ("y", "z"):
        raise ConfigError(f"up: expected 'y' or 'z' (the axis that points up in the files), found {up!r}")


def to_z_up(vectors: Tensor, up: str) -> Tensor:
    """(..., 3) points or normals, rotated so that z points up: (x, y, z) -> (x, -z, y) if ``up`` is "y".

    Example:
        >>> import torch
        >>> to_z_up(torch.tensor([1.0, 2.0, 3.0]), "y").tolist()
        [1.0, -3.0, 2.0]
    """
    check_up(up)
    if up == "z":
        return vectors
    rotated = vectors[..., [0, 2, 1]]
    rotated[..., 1].neg_()
    return rotated


def z_up(cloud: Data, up: str) -> Data:
    """The cloud rotated so that z points up, with its frame updated; the cloud itself if z points up already.

    Args:
        cloud: One cloud; it is not changed.
        up: The axis that points up in it, "y" or "z".
    """
    check_up(up)
    if up == "z":
        return cloud
    kinds = ("position", "displacement", "direction")
    out = map_fields(cloud, dict.fromkeys(kinds, lambda value, field: to_z_up(value, up)))
    out.frame = frame_of(cloud) @ from_z_up(up)
    return out


def from_z_up(up: str) -> Tensor:
    """(4, 4) the rotation back from z up to ``up`` up, as the frame of a rotated cloud."""
    return similarity(to_z_up(torch.eye(3), up), torch.zeros(3))
