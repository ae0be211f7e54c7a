"""A hand that moves smoothly from one pose to another in front of a camera."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from geo3d.data.hands.draws import normal, uniform
from geo3d.data.hands.forearm import forearm
from geo3d.data.hands.model import hand_model
from geo3d.data.hands.pose import is_held_out
from geo3d.data.hands.touching import run_into_each_other
from geo3d.data.hands.view import is_left_out
from geo3d.geometry.rotation import axis_angle_to_matrix

NO_PART = -1
"""The label of the forearm's points."""
TURN, DRIFT = math.radians(12), 0.02
"""Standard deviations of how far a hand turns and moves in the time of one motion, in radians and metres."""
LOOKS = torch.linspace(0, 1, 481, dtype=torch.float32)[1:]
"""Times at which poses and directions of a motion are checked."""
SELDOM = 40
"""Whether fingers run into each other takes longer, and is checked at every 40th of these times."""


class Hand(NamedTuple):
    """One hand before a camera, in metres in the camera's axes: x right, y down, z forward."""

    corner: Tensor
    """(F, 3, 3) triangles."""
    label: Tensor
    """(F,) the part of each, -1 for the forearm."""
    joints: Tensor
    """(21, 3)"""
    angles: Tensor
    """(5, 4) of the joints, see ``HandModel``."""


class Arm(NamedTuple):
    """The stub of a forearm, see :func:`geo3d.data.hands.forearm.forearm`."""

    length: Tensor
    width: Tensor
    bend: Tensor


class Motion(NamedTuple):
    """A hand of one shape that goes from one pose, direction and place to another in one unit of time."""

    shape: Tensor
    """(shapes,)"""
    arm: Arm
    angles: Tensor
    """(5, 4) at the start."""
    view: Tensor
    """(3, 3) from the hand's frame to the camera's axes, at the start."""
    place: Tensor
    """(3,) at the start."""
    last: Tensor
    """(5, 4) angles at the end."""
    turn: Tensor
    """(3,) axis and angle by which it turns in the camera's axes."""
    drift: Tensor
    """(3,) by how much it moves."""

    def of(self, row: int) -> "Motion":
        """One of many hands whose tensors have a first dimension of their number."""
        arm = Arm(*(part[row : row + 1].clone() for part in self.arm))
        return Motion(self.shape[row].clone(), arm, *(part[row].clone() for part in self[2:]))

    def start(self) -> Hand:
        """The hand at time 0."""
        return placed(self.shape, self.angles, self.view, self.place, self.arm)

    def at(self, time: float) -> Hand:
        """The hand at a time from 0 to 1; it starts and stops gently."""
        done = (1 - math.cos(math.pi * time)) / 2
        angles = self.angles + done * (self.last - self.angles)
        turn = axis_angle_to_matrix(done * self.turn)
        return placed(self.shape, angles, turn @ self.view, self.place + done * self.drift, self.arm)

    def is_like(self, held_out: bool, left_out: bool) -> bool:
        """Whether no finger runs into another on the way, and no pose and no direction is of the other kind.

        Args:
            held_out: Whether the poses are of those that training leaves out; only asked where they are not.
            left_out: Whether the camera is where no training camera is.
        """
        done = ((1 - (math.pi * LOOKS).cos()) / 2)[:, None]
        angles = self.angles + done[..., None] * (self.last - self.angles)
        some = angles[SELDOM - 1 :: SELDOM]
        if bool(run_into_each_other(hand_model().joints(self.shape.expand(len(some), -1), some)).any()):
            return False
        views = axis_angle_to_matrix(done * self.turn) @ self.view
        directions = -(normalize(self.place + done * self.drift, dim=1)[:, None] @ views)[:, 0]
        if bool((is_left_out(directions) != left_out).any()):
            return False
        return held_out or not bool(is_held_out(angles).any())


def random_arms(number: int, draw: torch.Generator) -> Arm:
    """Random forearms, (B,) of each kind of number and (B, 2) angles."""
    length, width = 0.06 + 0.09 * uniform(number, generator=draw), 0.95 + 0.35 * uniform(number, generator=draw)
    bend = torch.stack([0.5 * normal(number, generator=draw), 0.2 * normal(number, generator=draw)], 1)
    return Arm(length, width, bend.clamp(-0.78, 0.78))


def placed(shape: Tensor, angles: Tensor, view: Tensor, place: Tensor, arm: Arm) -> Hand:
    """A hand with its forearm, turned by ``view`` (3, 3) and moved to ``place`` (3,)."""
    model = hand_model()
    posed = model.posed(shape[None], angles[None])
    stub = forearm(posed.vertices[:, model.opening], posed.wrist, *arm)[0]
    corner = torch.cat([posed.vertices[0][model.faces], stub])
    label = torch.cat([model.parts, model.parts.new_full((len(stub),), NO_PART)])
    middle = posed.joints[0].mean(0)
    return Hand((corner - middle) @ view.mT + place, label, (posed.joints[0] - middle) @ view.mT + place, angles)


def carried(pos: Tensor, face: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """(N, 3) where points on or near triangles are when the triangles have moved.

    A point keeps its place in the plane of its triangle, in units of the triangle's edges, and its distance from it.

    Args:
        pos: (N, 3) points.
        face: (N,) the triangle of each.
        before: (F, 3, 3) triangles.
        after: (F, 3, 3) the same triangles later.

    Example:
        >>> triangle = torch.tensor([[[0.0, 0, 0], [1.0, 0, 0], [0.0, 1, 0]]])
        >>> carried(torch.tensor([[0.5, 0.25, 0.1]]), torch.tensor([0]), triangle, 2 * triangle + 1).tolist()
        [[2.0, 1.5, 1.100000023841858]]
    """
    start, along, across = _edges(before[face])
    u, v = _in_edges(pos - start, along, across)
    offset = ((pos - start) * _normal(along, across)).sum(1, keepdim=True)
    start, along, across = _edges(after[face])
    return start + u * along + v * across + offset * _normal(along, across)


def _edges(corner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return corner[:, 0], corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]


def _normal(along: Tensor, across: Tensor) -> Tensor:
    return normalize(torch.linalg.cross(along, across), dim=1, eps=1e-20)


def _in_edges(x: Tensor, along: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 1) and (N, 1) the coefficients of the two edges in the projection of ``x`` to their plane."""
    aa, bb, ab = (along * along).sum(1), (across * across).sum(1), (along * across).sum(1)
    xa, xb = (x * along).sum(1), (x * across).sum(1)
    det = (aa * bb - ab * ab).clamp(min=1e-24)
    return ((bb * xa - ab * xb) / det)[:, None], ((aa * xb - ab * xa) / det)[:, None]
