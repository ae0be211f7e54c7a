"""From where a camera sees a hand."""

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from geo3d.data.hands.draws import normal, uniform
from geo3d.data.hands.model import hand_model
from geo3d.data.hands.skeleton import WRIST

LEFT_OUT = normalize(
    torch.tensor([[1.0, 1.0, 0.5], [-1.0, 0.5, 0.5], [0.3, -1.0, 0.8], [-0.5, 0.3, -1.0]], dtype=torch.float32),
    dim=1,
)
"""Directions in the hand's frame; no training camera is within ``CONE`` of one of them."""
CONE = math.radians(30)
NEAR, FAR = 0.3, 0.75
"""Distances of hands in metres."""
OFF_AXIS = math.radians(15)
"""A hand is at most so far from the camera's axis."""
LEAN = math.radians(75)
"""The forearm leans at most so far away from the lower edge of the picture."""


def random_views(number: int, draw: torch.Generator, left_out: bool) -> tuple[Tensor, Tensor]:
    """(B, 3, 3) rotations from the hands' frames to the camera's axes, and (B, 3) the places of the hands.

    Args:
        number: How many, B.
        draw: Draws both.
        left_out: Whether the cameras are where no camera is in training, or where they are then.
    """
    direction = normalize(normal(number, 3, generator=draw), dim=1)
    while len(wrong := (is_left_out(direction) != left_out).nonzero()[:, 0]):
        direction[wrong] = normalize(normal(len(wrong), 3, generator=draw), dim=1)
    lean, far, off, around = uniform(4, number, generator=draw)
    view = facing(direction, -hand_model().rest[WRIST][:, 1], LEAN * (2 * lean - 1))
    off, around = OFF_AXIS * off, 2 * math.pi * around
    ahead = torch.stack([off.sin() * around.cos(), off.sin() * around.sin(), off.cos()], 1)
    return towards(ahead).mT @ view, ahead * (NEAR + (FAR - NEAR) * far)[:, None]


def towards(place: Tensor) -> Tensor:
    """(..., 3, 3) rotation of a camera's axes that turns its axis to a place; the place then has x = y = 0.

    Args:
        place: (..., 3) in front of the camera, z > 0.

    Example:
        >>> (towards(torch.tensor([3.0, 0.0, 4.0])) @ torch.tensor([3.0, 0.0, 4.0])).round().tolist()
        [0.0, 0.0, 5.0]
    """
    x, y, z = normalize(place, dim=-1).unbind(-1)
    inverse = 1 / (1 + z)
    across = -x * y * inverse
    rows = [z + y * y * inverse, across, -x, across, z + x * x * inverse, -y, x, y, z]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def is_left_out(direction: Tensor) -> Tensor:
    """(...) bool, whether training leaves out a camera in a direction, a unit vector (..., 3) of the hand's frame."""
    return (direction @ LEFT_OUT.mT > math.cos(CONE)).any(-1)


def facing(direction: Tensor, arm: Tensor, lean: Tensor) -> Tensor:
    """(B, 3, 3) rotations to the axes of cameras in whose pictures the forearm points down, but for a lean.

    Args:
        direction: (B, 3) unit vectors from the hand to the camera.
        arm: (3,) unit vector along the forearm, away from the hand.
        lean: (B,) angles of the forearm in the picture.

    Example:
        >>> facing(torch.tensor([[0.0, 0.0, -1.0]]), torch.tensor([0.0, 1.0, 0.0]), torch.zeros(1)).tolist()
        [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-0.0, -0.0, 1.0]]]
    """
    forward = -direction
    down = arm - (forward @ arm)[:, None] * forward
    along_arm = down.norm(dim=1, keepdim=True) < 1e-3  # then any direction in the picture will do
    other = torch.linalg.cross(forward, forward.new_tensor([0.6, 0.8, 0.0]).expand_as(forward))
    down = normalize(torch.where(along_arm, other, down), dim=1)
    right = torch.linalg.cross(down, forward)
    c, s = lean.cos()[:, None], lean.sin()[:, None]
    return torch.stack([c * right + s * down, c * down - s * right, forward], 1)
