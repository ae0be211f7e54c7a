"""Clouds moved and scaled to a common frame."""

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
