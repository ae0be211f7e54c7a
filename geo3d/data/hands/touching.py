"""Whether fingers run into each other or into the palm."""

import torch
from torch import Tensor

from geo3d.data.hands.skeleton import BONES

RADII = torch.tensor([9.5, 9.5, 8.5, 6.5, *[10.0, 9.0, 8.0, 7.0] * 4], dtype=torch.float32) / 1000
"""(20,) radius in metres of each bone's capsule (``skeleton.BONES``), as those of MyoHand."""
LENGTH = 0.07
"""Length in metres of the middle finger's metacarpal that the radii belong to; they grow with the hand."""
SOFT = 0.75
"""Capsules closer than this fraction of the sum of their radii run into each other: flesh gives way."""


def _pairs() -> tuple[Tensor, Tensor]:
    """The bones of different fingers that can run into each other: all but two of their first ones, side by side."""
    chosen = [(a, b) for a in range(len(BONES)) for b in range(a) if a // 4 != b // 4 and (a % 4 > 1 or b % 4 > 1)]
    first, second = zip(*chosen, strict=True)
    return torch.tensor(first), torch.tensor(second)


FIRST, SECOND = _pairs()


def run_into_each_other(joints: Tensor) -> Tensor:
    """(B,) bool, whether bones of two fingers, or of a finger and the palm, overlap.

    Args:
        joints: (B, 21, 3) in metres, in the order of ``skeleton.JOINTS``.
    """
    start, stop = (joints[:, [bone[end] for bone in BONES]] for end in (0, 1))
    size = (joints[:, 9] - joints[:, 0]).norm(dim=1, keepdim=True) / LENGTH
    radii = RADII * size.clamp(max=1.3)
    distance = segment_distance(start[:, FIRST], stop[:, FIRST], start[:, SECOND], stop[:, SECOND])
    return (distance < SOFT * (radii[:, FIRST] + radii[:, SECOND])).any(1)


def segment_distance(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """(...) distance of the segments from ``a`` to ``b`` and from ``c`` to ``d``, each (..., 3).

    Example:
        >>> point = torch.eye(3)
        >>> float(segment_distance(point[0], -point[0], point[1] + point[2], point[2] - point[1]))
        1.0
    """
    first, second, between = b - a, d - c, a - c
    aa, bb = first.square().sum(-1).clamp(min=1e-12), second.square().sum(-1).clamp(min=1e-12)
    ab, ac, bc = (first * second).sum(-1), (first * between).sum(-1), (second * between).sum(-1)
    det = aa * bb - ab * ab
    s = torch.where(det > 1e-9 * aa * bb, (ab * bc - ac * bb) / det.clamp(min=1e-20), 0.0).clamp(0, 1)
    t = (ab * s + bc) / bb
    s = torch.where(t < 0, -ac / aa, torch.where(t > 1, (ab - ac) / aa, s)).clamp(0, 1)
    t = t.clamp(0, 1)
    return (between + s[..., None] * first - t[..., None] * second).norm(dim=-1)
