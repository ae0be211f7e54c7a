"""Random poses of a hand: grasps, pinches, gestures and everything between, within the limits of its joints."""

import math

import torch
from torch import Tensor

from geo3d.data.hands.draws import normal, uniform
from geo3d.data.hands.skeleton import FINGERS

LIMITS = torch.tensor(
    [
        [(-40.0, 25.0), (-20.0, 35.0), (-10.0, 50.0), (-10.0, 75.0)],
        *[[(-15.0, 15.0), (-15.0, 90.0), (0.0, 105.0), (0.0, 75.0)]] * 4,
    ],
    dtype=torch.float32,
) * (math.pi / 180)  # fmt: skip
"""(5, 4, 2) least and largest angle of each joint: for each finger spread, base, middle and end, see ``HandModel``.

Fingers: the limits of MyoHand and of the arm model of Holzbaur et al. (doi 10.1007/s10439-005-3320-7), with the larger
range of the middle joint that clinics measure. The thumb's first joint is relative to the model's rest pose."""
COUPLED = 2 / 3
"""The last joint of a finger bends this much of what the middle one does: one tendon bends both."""
DRAG = 0.4
"""How much of the difference to its neighbours a finger's base joint gives up."""
STRAIGHT = torch.tensor([45.0, 75.0, 75.0, 75.0, 75.0], dtype=torch.float32) * (math.pi / 180)
"""A finger whose joints together are bent by less counts as straight."""
GRASPS, PINCHES = 0.33, 0.2
"""Fractions of the hands that grasp and pinch; all others are gestures."""
PINCH = torch.tensor(
    [
        [(0.0, 28.0, 20.0, 3.0), (0.0, 35.0, 50.0, 33.0)],
        [(-5.0, 29.0, 36.0, 12.0), (0.0, 37.0, 63.0, 42.0)],
        [(-9.0, 30.0, 46.0, 18.0), (0.0, 38.0, 64.0, 43.0)],
        [(0.0, 31.0, 49.0, 42.0), (0.0, 54.0, 50.0, 33.0)],
    ],
    dtype=torch.float32,
) * (math.pi / 180)  # fmt: skip
"""(4, 2, 4) angles of the thumb and of each other finger at which their tips are 14 mm apart, found by search."""
SPREAD = torch.tensor([0.0, -0.5, 0.0, 0.5, 1.0], dtype=torch.float32)
"""How far each finger moves when a hand is spread, from the thumb on."""
HELD_OUT = ((0, 1, 0, 0, 1), (1, 1, 0, 0, 1), (1, 0, 0, 0, 1), (1, 0, 0, 1, 1), (0, 1, 1, 1, 0), (0, 0, 1, 0, 0))
"""Patterns of straight (1) and bent (0) fingers, from the thumb on, that no training hand shows."""


def random_poses(number: int, generator: torch.Generator) -> Tensor:
    """(number, 5, 4) angles in radians.

    A third of the hands grasp: their fingers bend together, and the thumb opposes them. A fifth pinch: the tip of the
    thumb meets that of a finger. The others are gestures: each finger is straight, bent or half bent on its own. The
    joints of a finger bend together in all.
    """
    kind = uniform(number, 1, generator=generator)
    grasp, pinch = kind < GRASPS, kind[:, 0] > 1 - PINCHES
    together = uniform(number, 1, generator=generator) ** 1.5
    each = _straight_or_bent(number, generator)
    curl = torch.where(grasp, together + 0.12 * normal(number, 5, generator=generator), each)
    curl = curl.clamp(0, 1)
    balance = 0.5 + 0.22 * normal(number, 5, generator=generator)  # bent at the base, or at the middle
    share = torch.stack([(1.6 * balance * curl), (1.6 * (1 - balance) * curl)], 2).clamp(0, 1)
    share[:, 1:, 0] = _dragged(share[:, 1:, 0])
    low, high = LIMITS[..., 0], LIMITS[..., 1]
    angles = torch.zeros(number, len(FINGERS), 4, dtype=torch.float32)
    angles[..., 1:3] = low[:, 1:3] + share * (high - low)[:, 1:3]
    angles[..., 3] = COUPLED * angles[..., 2] + 0.12 * normal(number, 5, generator=generator)
    freedom = 1 - 0.8 * share[..., 0]  # a bent finger cannot be spread
    spread = normal(number, 1, generator=generator) * SPREAD
    angles[..., 0] = (0.1 * spread + 0.06 * normal(number, 5, generator=generator)) * freedom
    oppose = torch.where(grasp[:, 0], 0.55 * together[:, 0], 0.0) + 0.2 * normal(number, generator=generator)
    angles[:, 0, 0] = -oppose
    return torch.where(pinch[:, None, None], _pinched(angles, generator), angles).clamp(low, high)


def _pinched(angles: Tensor, generator: torch.Generator) -> Tensor:
    """(number, 5, 4) the poses with the tip of the thumb at that of a finger."""
    which = torch.randint(4, (len(angles),), generator=generator)
    close = PINCH[which] + 0.06 * normal(len(angles), 2, 4, generator=generator)
    rows, out = torch.arange(len(angles)), angles.clone()
    out[:, 0], out[rows, 1 + which] = close[:, 0], close[:, 1]
    return out


def _straight_or_bent(number: int, generator: torch.Generator) -> Tensor:
    """(number, 5) how far each finger is bent: mostly almost straight, else almost closed or between."""
    kind = uniform(number, 5, generator=generator)
    amount = uniform(number, 5, generator=generator)
    return torch.where(kind < 0.6, 0.22 * amount, torch.where(kind < 0.8, 1 - 0.25 * amount, amount))


def _dragged(share: Tensor) -> Tensor:
    """(number, 4) how far the base joints are bent when each finger drags its neighbours along."""
    padded = torch.cat([share[:, :1], share, share[:, -1:]], 1)
    return (1 - DRAG) * share + DRAG * (padded[:, :-2] + padded[:, 2:]) / 2


def pattern(angles: Tensor) -> Tensor:
    """(n, 5) bool, which fingers are straight: all their joints together are bent by less than 75 degrees; thumb 45.

    Example:
        >>> pattern(torch.zeros(1, 5, 4)).tolist()
        [[True, True, True, True, True]]
    """
    return angles[..., 1:].clamp(min=0).sum(2) < STRAIGHT


def is_held_out(angles: Tensor) -> Tensor:
    """(n,) bool, whether the pattern of straight fingers is one of ``HELD_OUT``."""
    held = torch.tensor(HELD_OUT, dtype=torch.bool)
    return (pattern(angles)[:, None] == held).all(2).any(1)
