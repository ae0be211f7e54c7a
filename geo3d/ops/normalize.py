"""Clouds moved and scaled to a common frame."""

import torch
from torch import Tensor


def unit_sphere(pos: Tensor) -> Tensor:
    """(N, 3): the cloud with its mean at the origin and its farthest point at distance 1 (0 for a single point).

    Example:
        >>> unit_sphere(torch.tensor([[0.0, 0, 0], [4.0, 0, 0]])).tolist()
        [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    pos = pos - pos.mean(0)
    return pos / pos.norm(dim=1).max().clamp_min(torch.finfo(pos.dtype).tiny)
