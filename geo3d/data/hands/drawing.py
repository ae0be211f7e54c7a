"""Random hands, many drawn together: torch takes hardly longer for many small tensors in one than for one of them."""

import torch
from torch import Tensor

from geo3d.data.hands.draws import uniform
from geo3d.data.hands.model import hand_model
from geo3d.data.hands.motion import Motion, random_arms
from geo3d.data.hands.pose import is_held_out, random_poses
from geo3d.data.hands.touching import run_into_each_other
from geo3d.data.hands.view import random_views

AWAY = 1.0
"""Largest component of shape of a training hand, in standard deviations; ``held_out="shape"`` tests larger ones."""
TRIES = 4
"""How many poses are drawn at once for each hand, of which the first good one is taken."""


def random_hands(number: int, draw: torch.Generator, held_out: str) -> Motion:
    """Hands at rest; the tensors of all have a first dimension of this number.

    Args:
        number: How many, B.
        draw: Draws them.
        held_out: What they have that no training hand has: ``shape``, ``view``, ``pose``, or ``none``.
    """
    shape = random_shapes(number, draw, held_out == "shape")
    arm = random_arms(number, draw)
    angles = possible_poses(shape, draw, held_out == "pose")
    view, place = random_views(number, draw, held_out == "view")
    still = torch.zeros_like(place)
    return Motion(shape, arm, angles, view, place, last=angles, turn=still, drift=still)


def random_shapes(number: int, draw: torch.Generator, left_out: bool) -> Tensor:
    """(B, shapes) components in standard deviations, up to ``AWAY``; of shapes left out of training one is larger."""
    inside = AWAY * (2 * uniform(number, hand_model().shapes, generator=draw) - 1)
    if left_out:
        rows, which = torch.arange(number), torch.randint(2, (number,), generator=draw)
        inside[rows, which] = inside[rows, which].sign() * AWAY * (1 + uniform(number, generator=draw))
    return inside


def possible_poses(shape: Tensor, draw: torch.Generator, held_out: bool) -> Tensor:
    """(B, 5, 4) for each shape (B, shapes) the first pose in which no finger runs into another.

    Args:
        shape: The shapes.
        draw: Draws the poses.
        held_out: Whether the patterns of straight fingers are of those that training leaves out, or of the others.
    """
    angles = shape.new_empty(len(shape), 5, 4)
    left = torch.arange(len(shape))
    while len(left):
        tried = random_poses(TRIES * len(left), draw)
        good = is_held_out(tried) == held_out
        rows = good.nonzero()[:, 0]
        joints = hand_model().joints(shape[left].repeat_interleave(TRIES, 0)[rows], tried[rows])
        good[rows] = ~run_into_each_other(joints)
        good, tried = good.view(-1, TRIES), tried.unflatten(0, (-1, TRIES))
        done = good.any(1)
        first = good[done].float().argmax(1)
        angles[left[done]] = tried[done][torch.arange(len(first)), first]
        left = left[~done]
    return angles
