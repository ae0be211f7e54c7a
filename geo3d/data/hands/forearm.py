"""A stub of the forearm behind the wrist, so that no camera looks into the hand."""

import torch
from torch import Tensor

from geo3d.geometry.rotation import rotation_about_axis

RINGS = 4
"""Rings of vertices between the wrist and the end."""


def forearm(loop: Tensor, wrist: Tensor, length: Tensor, width: Tensor, bend: Tensor) -> Tensor:
    """(B, F, 3, 3) triangles of a closed tube from the opening at the wrist, straight along the forearm.

    Args:
        loop: (B, L, 3) the vertices around the opening.
        wrist: (B, 3, 3) orientation of the wrist bone; the forearm runs against its y axis.
        length: (B,) of the forearm.
        width: (B,) width at the end in widths of the opening.
        bend: (B, 2) angles of the wrist, about the x and the z axis of the wrist bone.
    """
    middle = loop.mean(1, keepdim=True)
    turn = rotation_about_axis(bend[:, 0], "x") @ rotation_about_axis(bend[:, 1], "z")
    along = -(wrist @ turn)[..., 1]
    steps = torch.linspace(0, 1, RINGS + 1, dtype=loop.dtype)[1:]
    grown = 1 + (width[:, None] - 1) * steps
    centers = middle + along[:, None] * (length[:, None] * steps)[..., None]
    flat = loop - middle
    rings = torch.cat([loop[:, None], centers[:, :, None] + grown[..., None, None] * flat[:, None]], 1)
    ahead = rings.roll(-1, 2)
    near, far, near_ahead, far_ahead = rings[:, :-1], rings[:, 1:], ahead[:, :-1], ahead[:, 1:]
    sides = torch.cat([torch.stack([near, near_ahead, far_ahead], 3), torch.stack([near, far_ahead, far], 3)], 2)
    end = centers[:, -1, None].expand_as(loop)
    cap = torch.stack([rings[:, -1], ahead[:, -1], end], 2)
    return torch.cat([sides.flatten(1, 2), cap], 1)
