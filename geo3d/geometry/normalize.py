"""Clouds and vectors brought to a common scale."""

import torch
from torch import Tensor


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


def unit_vectors(vectors: Tensor) -> Tensor:
    """(M, 3) the vectors (M, 3) made as long as 1; a zero vector stays zero.

    Example:
        >>> unit_vectors(torch.tensor([[0.0, 3.0, 4.0], [0.0, 0.0, 0.0]]))
        tensor([[0.0000, 0.6000, 0.8000],
                [0.0000, 0.0000, 0.0000]])
    """
    x, y, z = vectors.unbind(1)  # by columns: torch is slow at norms of short rows
    return vectors / (x * x + y * y + z * z).clamp(min=1e-24).sqrt()[:, None]
