"""From where a camera sees a hand."""

import math

import torch
from torch import Tensor

from geo3d.data.hands.draws import normal, uniform
from geo3d.data.hands.model import hand_model
from geo3d.data.hands.skeleton import WRIST

LEFT_OUT = torch.nn.functional.normalize(
    torch.tensor([[1.0, 1.0, 0.5], [-1.0, 0.5, 0.5], [0.3, -1.0, 0.8], [-0.5, 0.3, -1.0]]), dim=1
)
"""Directions in the hand's frame; no training camera is within ``CONE`` of one of them."""
CONE = math.radians(30)
NEAR, FAR = 0.3, 0.75
"""Distances of hands in metres."""
OFF_AXIS = math.radians(15)
"""A hand is at most so far from the camera's axis."""
LEAN = math.radians(75)
"""The forearm leans at most so far away from the lower edge of the picture."""


def random_views(draw: torch.Generator, left_out: bool) -> tuple[Tensor, Tensor]:
    """(3, 3) rotation from the hand's frame to the camera's axes, and (3,) the place of the hand.

    Args:
        draw: Draws both.
        left_out: Whether the camera is where no camera is in training, or where it is then.
    """
    while True:
        direction = torch.nn.functional.normalize(normal(3, generator=draw), dim=0)
        if is_left_out(direction) == left_out:
            break
    lean = LEAN * (2 * float(uniform((), generator=draw)) - 1)
    view = facing(direction, -hand_model().rest[WRIST][:, 1], lean)
    distance = NEAR + (FAR - NEAR) * uniform((), generator=draw)
    off, around = (float(number) for number in uniform(2, generator=draw))
    off, around = OFF_AXIS * off, 2 * math.pi * around
    ahead = direction.new_tensor([math.sin(off) * math.cos(around), math.sin(off) * math.sin(around), math.cos(off)])
    return towards(ahead).mT @ view, ahead * distance


def towards(place: Tensor) -> Tensor:
    """(3, 3) rotation of a camera's axes that turns its axis to a place; the place then has x = y = 0.

    Args:
        place: (3,) in front of the camera, z > 0.

    Example:
        >>> (towards(torch.tensor([3.0, 0.0, 4.0])) @ torch.tensor([3.0, 0.0, 4.0])).round().tolist()
        [0.0, 0.0, 5.0]
    """
    x, y, z = (place / place.norm()).tolist()
    inverse = 1 / (1 + z)
    rows = [
        [z + y * y * inverse, -x * y * inverse, -x],
        [-x * y * inverse, z + x * x * inverse, -y],
        [x, y, z],
    ]
    return torch.tensor(rows, dtype=place.dtype)


def is_left_out(direction: Tensor) -> bool:
    """Whether a camera in this direction, a unit vector (3,) in the hand's frame, is one that training leaves out."""
    return bool((LEFT_OUT @ direction > math.cos(CONE)).any())


def facing(direction: Tensor, arm: Tensor, lean: float) -> Tensor:
    """(3, 3) rotation to the axes of a camera in a direction, in whose picture the forearm points down, but for a lean.

    Args:
        direction: (3,) unit vector from the hand to the camera.
        arm: (3,) unit vector along the forearm, away from the hand.
        lean: Angle of the forearm in the picture.

    Example:
        >>> facing(torch.tensor([0.0, 0.0, -1.0]), torch.tensor([0.0, 1.0, 0.0]), 0.0).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-0.0, -0.0, 1.0]]
    """
    forward = -direction
    down = arm - (arm @ forward) * forward
    if float(down.norm()) < 1e-3:  # the camera looks along the arm
        down = torch.linalg.cross(forward, forward.new_tensor([0.6, 0.8, 0.0]))
    down = down / down.norm()
    right = torch.linalg.cross(down, forward)
    c, s = math.cos(lean), math.sin(lean)
    return torch.stack([c * right + s * down, c * down - s * right, forward])
