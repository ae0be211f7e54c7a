"""A right hand with linear blend skinning: shapes and joint angles to a surface and its joints."""

import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geo3d.data.hands.skeleton import FINGERS, MODEL_JOINTS, TIPS, WRIST
from geo3d.geometry.rotation import rotation_about_axis

FILE = Path(__file__).with_name("hand_right.npz")


class Posed(NamedTuple):
    """Hands in their poses, in metres; the wrist is at the origin."""

    vertices: Tensor
    """(B, V, 3)"""
    joints: Tensor
    """(B, 21, 3), in the order of ``skeleton.JOINTS``."""
    wrist: Tensor
    """(B, 3, 3) orientation of the wrist bone: its y axis runs from the wrist to the fingers."""


class HandModel:
    """The skinned hand. Angles are anatomical, in radians: at 0 a bone is not bent against the one before.

    Beyond the first joint of a finger the sideways angles of the rest pose stay: up to 5 degrees, of the thumb 21.

    The pose of a hand is (5, 4): for each finger the angles ``(spread, base, middle, end)``. ``spread`` moves the
    finger towards the little finger, the other three bend it. The thumb's first joint has no such zero: its ``spread``
    (towards the back of the hand) and ``base`` (towards the little finger) are relative to the model's rest pose.

    Attributes:
        shapes: Number of components of shape.
        faces: (F, 3) vertices of the triangles, which face outward.
        parts: (F,) the part (``skeleton.PARTS``) of each face.
        opening: (L,) vertices around the hole at the wrist, in the order of a face beyond it.
        straight: (5, 4) angles of the rest pose.
    """

    def __init__(self) -> None:
        with np.load(FILE) as arrays:
            array = {name: torch.from_numpy(arrays[name]) for name in arrays.files if arrays[name].dtype.kind in "fi"}
        self.vertices, self.origins = array["v_template"], array["j_template"]
        self.vertex_shape, self.origin_shape = array["v_shape"].flatten(1), array["j_shape"].flatten(1)
        self.faces, self.weights, parents = array["faces"].long(), array["weights"], array["parents"]
        self.rest = array["bone_rest_rot"]
        local = self.rest[parents.clamp(min=0)].mT @ self.rest
        flexion = torch.atan2(local[:, 2, 1], local[:, 1, 1])
        abduction = torch.atan2(-local[:, 0, 1], local[:, 1, 1])
        self.bones = torch.tensor(MODEL_JOINTS)
        self.straight = torch.cat([abduction[self.bones[:, :1]], flexion[self.bones]], 1)
        self.straight[0, :2] = 0.0
        self.of_fingers = self.weights[:, self.bones.flatten()]
        self.next = self.rest[self.bones[:, :-1]].mT @ self.rest[self.bones[:, 1:]]
        self.tips = torch.tensor(TIPS)
        self.shapes, self.parts, self.opening = len(self.vertex_shape), self._parts(), self._opening()

    def _parts(self) -> Tensor:
        """(F,) the part (``skeleton.PARTS``) of each face: that of the bones with the most weight."""
        part = torch.zeros(self.weights.shape[1], dtype=torch.long)
        for finger, bones in enumerate(MODEL_JOINTS):
            part[list(bones)] = 1 + 3 * finger + torch.arange(3)
        of_parts = self.weights.new_zeros(len(self.weights), 1 + 3 * len(FINGERS)).index_add_(1, part, self.weights)
        return of_parts[self.faces].sum(1).argmax(1)

    def _opening(self) -> Tensor:
        """(L,) vertices around the opening at the wrist, in the order in which a face beyond them would have them."""
        edges = torch.cat([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]]).tolist()
        inside = {(a, b) for a, b in edges}
        after = {b: a for a, b in edges if (b, a) not in inside}
        loop = [min(after)]
        while after[loop[-1]] != loop[0]:
            loop.append(after[loop[-1]])
        return torch.tensor(loop)

    def posed(self, shape: Tensor, angles: Tensor) -> Posed:
        """The hands of these shapes in these poses.

        Args:
            shape: (B, shapes) in standard deviations of each component.
            angles: (B, 5, 4) see the class.
        """
        before = self._origins(shape)
        turn, origin = self._bones(before, angles)
        linear = turn @ self.rest[self.bones].mT
        shift = origin - (linear @ before[:, self.bones][..., None])[..., 0]
        moved = torch.cat([(linear - torch.eye(3).to(linear)).flatten(3), shift], 3).flatten(
            1, 2
        )  # how fingers move in the palm
        blended = self.of_fingers @ moved
        rest = self.vertices + (shape @ self.vertex_shape).unflatten(1, (-1, 3))
        vertices = rest + (blended[..., :9].unflatten(2, (3, 3)) @ rest[..., None])[..., 0] + blended[..., 9:]
        joints = self._named(before, origin, vertices[:, self.tips])
        return Posed(vertices, joints, self.rest[WRIST].expand(len(shape), 3, 3))

    def joints(self, shape: Tensor, angles: Tensor) -> Tensor:
        """(B, 21, 3) the joints alone, much faster than :meth:`posed`; tips go on along their bones."""
        before = self._origins(shape)
        turn, origin = self._bones(before, angles)
        tips = self.vertices[self.tips] + (shape @ self.vertex_shape).unflatten(1, (-1, 3))[:, self.tips]
        last = self.bones[:, -1]
        reach = self.rest[last].mT @ (tips - before[:, last])[..., None]
        return self._named(before, origin, origin[:, :, -1] + (turn[:, :, -1] @ reach)[..., 0])

    def _origins(self, shape: Tensor) -> Tensor:
        """(B, bones, 3) origins of the bones at rest."""
        return self.origins + (shape @ self.origin_shape).unflatten(1, (-1, 3))

    def _named(self, before: Tensor, origin: Tensor, tips: Tensor) -> Tensor:
        """(B, 21, 3) the joints, from the origins at rest, those of the fingers' bones (B, 5, 3, 3), and the tips."""
        fingers = torch.cat([origin, tips[:, :, None]], 2)
        return torch.cat([before[:, WRIST : WRIST + 1], fingers.flatten(1, 2)], 1)

    def _bones(self, before: Tensor, angles: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 5, 3, 3, 3) orientations and (B, 5, 3, 3) origins of the fingers' bones; the others do not move."""
        applied = angles - self.straight
        delta = rotation_about_axis(applied[..., 1:], "x")
        at = before[:, self.bones]
        step = self.rest[self.bones[:, :-1]].mT @ at.diff(dim=2)[..., None]
        turn = [self.rest[self.bones[:, 0]] @ rotation_about_axis(applied[..., 0], "z") @ delta[:, :, 0]]
        origin = [at[:, :, 0]]
        for bone in (0, 1):
            origin.append(origin[-1] + (turn[-1] @ step[:, :, bone])[..., 0])
            turn.append(turn[-1] @ self.next[:, bone] @ delta[:, :, bone + 1])
        return torch.stack(turn, 2), torch.stack(origin, 2)


@cache
def hand_model() -> HandModel:
    """The model, read once."""
    return HandModel()


def degrees(*angles: float) -> Tensor:
    """(n,) angles in radians.

    Example:
        >>> round(float(degrees(180)[0]), 4)
        3.1416
    """
    return torch.tensor(angles) * (math.pi / 180)
