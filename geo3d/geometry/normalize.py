"""Clouds scaled to a common size."""

from typing import Annotated

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.checks import OneOf
from geo3d.cloud import map_fields
from geo3d.geometry.per_cloud import by_cloud, on_field, reduce_clouds
from geo3d.geometry.principal import equal_clouds_axes, principal_axes
from geo3d.geometry.rotation import rotate

Normalize = Annotated[str, OneOf("unit_sphere", "box", "oriented_box", "center", "none")]
"""The common scale of clouds.

``unit_sphere``: their mean is the origin, and the farthest point has distance 1. ``box``: the centre of their bounding
box is the origin, and its longest side goes from -1 to 1. ``oriented_box``: the same in the cloud's principal axes, see
:mod:`geo3d.geometry.principal`. ``center``: their mean is the origin, and lengths stay, for
scenes in metres. ``none``: as they are.
"""


def center_and_scale(pos: Tensor, normalize: str) -> tuple[Tensor, Tensor]:
    """Center (3,) and scale () of one cloud under a normalisation other than ``none``, for ``(pos - center) / scale``.

    The scale is 1 for points that all lie in one place. Points for ``oriented_box`` are already turned.
    """
    if normalize == "center":
        return pos.mean(0), pos.new_ones(())
    return unit_sphere(pos) if normalize == "unit_sphere" else bounding_box(pos)


def own_axes(pos: Tensor) -> Tensor:
    """(3, 3) rotation of one cloud (N, 3) to its principal axes."""
    return equal_clouds_axes((pos - pos.mean(0))[None])[0]


def bounding_box(pos: Tensor) -> tuple[Tensor, Tensor]:
    """Center (3,) and scale () that map the longest side of the cloud's bounding box to -1..1.

    The scale is 1 for points that all lie in one place.

    Example:
        >>> center, scale = bounding_box(torch.tensor([[0.0, 0, 0], [4.0, 2, 0], [1.0, 0, 0]]))
        >>> center.tolist(), scale.item()
        ([2.0, 1.0, 0.0], 2.0)
    """
    low, high = pos.aminmax(dim=0)
    scale = (high - low).amax() / 2
    return (low + high) / 2, torch.where(scale > 0, scale, torch.ones_like(scale))


def unit_sphere(pos: Tensor) -> tuple[Tensor, Tensor]:
    """Center (3,), the mean, and scale (), the distance of the farthest point, which map a cloud to the unit sphere.

    The scale is 1 for points that all lie in one place.

    Example:
        >>> center, scale = unit_sphere(torch.tensor([[0.0, 0, 0], [4.0, 0, 0]]))
        >>> center.tolist(), scale.item()
        ([2.0, 0.0, 0.0], 2.0)
    """
    center = pos.mean(0)
    scale = (pos - center).norm(dim=1).max()
    return center, torch.where(scale > 0, scale, torch.ones_like(scale))


def normalized(batch: Batch, normalize: str) -> Batch:
    """The clouds at a common scale, see :data:`Normalize`; joints are mapped like points, ``frame`` is dropped.

    A cloud whose points all lie in one place is only centred.
    """
    if normalize == "none":
        return batch
    if normalize == "oriented_box":
        centered = by_cloud(torch.sub, batch.pos, reduce_clouds(batch.pos, batch, "mean"), batch)
        batch = rotate(principal_axes(centered, batch), batch)
    if normalize in ("unit_sphere", "center"):
        center = reduce_clouds(batch.pos, batch, "mean")
    else:
        low, high = reduce_clouds(batch.pos, batch, "min"), reduce_clouds(batch.pos, batch, "max")
        center = (low + high) / 2
    centered = map_fields(batch, {"position": on_field(torch.sub, center, batch)})
    if normalize == "center":
        return centered
    if normalize == "unit_sphere":
        radius = reduce_clouds(centered.pos.norm(dim=1), batch, "max")
    else:
        radius = (high - low).amax(1) / 2
    scale = on_field(torch.div, torch.where(radius > 0, radius, 1.0)[:, None].expand(-1, 3), batch)
    return map_fields(centered, {"position": scale, "displacement": scale})
