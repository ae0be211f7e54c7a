"""Clouds and vectors brought to a common scale."""

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.cloud import map_fields
from geo3d.geometry.per_cloud import on_field, reduce_clouds


def unit_sphere(pos: Tensor) -> tuple[Tensor, Tensor]:
    """Center (3,) and scale () for which ``(pos - center) / scale`` just fits the unit sphere around its mean.

    The scale is 1 for points that all lie in one place.

    Example:
        >>> center, scale = unit_sphere(torch.tensor([[0.0, 0, 0], [4.0, 0, 0]]))
        >>> center.tolist(), scale.item()
        ([2.0, 0.0, 0.0], 2.0)
    """
    center = pos.mean(0)
    scale = (pos - center).norm(dim=1).max()
    return center, torch.where(scale > 0, scale, torch.ones_like(scale))


def into_unit_sphere(batch: Batch) -> Batch:
    """The clouds with their mean at the origin and their farthest point at distance 1; joints move along.

    A cloud without extent is only centred. ``frame`` is dropped.
    """
    mean = reduce_clouds(batch.pos, batch, "mean")
    centered = map_fields(batch, {"position": on_field(torch.sub, mean, batch)})
    radius = reduce_clouds(centered.pos.norm(dim=1), batch, "max")
    scale = on_field(torch.div, torch.where(radius > 0, radius, 1.0)[:, None].expand(-1, 3), batch)
    return map_fields(centered, {"position": scale, "displacement": scale})


def unit_vectors(vectors: Tensor) -> Tensor:
    """(M, 3) the vectors (M, 3) made as long as 1; a zero vector stays zero.

    Example:
        >>> unit_vectors(torch.tensor([[0.0, 3.0, 4.0], [0.0, 0.0, 0.0]]))
        tensor([[0.0000, 0.6000, 0.8000],
                [0.0000, 0.0000, 0.0000]])
    """
    x, y, z = vectors.unbind(1)  # by columns: torch is slow at norms of short rows
    return vectors / (x * x + y * y + z * z).clamp(min=1e-24).sqrt()[:, None]
