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

LEVELS = (
    ([0], [1]),
    ([1] * 5, [2, 5, 9, 13, 17]),
    ([2, 5, 9, 13, 17], [3, 6, 10, 14, 18]),
    ([3, 6, 10, 14, 18], [4, 7, 11, 15, 19]),
    ([7, 11, 15, 19], [8, 12, 16, 20]),
)
"""Bones of the model that move together, behind their parents: those with equally many bones before them."""
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
    """The skinned hand. Angles are anatomical, in radians: 0 means that a bone goes on straight from the one before.

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
        local[0] = self.rest[0]
        self.local = local
        self.flexion = torch.atan2(local[:, 2, 1], local[:, 1, 1])
        self.abduction = torch.atan2(-local[:, 0, 1], local[:, 1, 1])
        bones = torch.tensor(MODEL_JOINTS)
        self.straight = torch.cat([self.abduction[bones[:, :1]], self.flexion[bones]], 1)
        self.straight[0, :2] = 0.0
        self.shapes, self.parts, self.opening = len(self.vertex_shape), self._parts(), self._opening()

    def _parts(self) -> Tensor:
        """(F,) the part (``skeleton.PARTS``) of each face: that of the bones with the most weight."""
        part = torch.zeros(self.weights.shape[1], dtype=torch.long)
        for finger, bones in enumerate(MODEL_JOINTS):
            part[list(bones)] = 1 + 3 * finger + torch.arange(3)
        of_parts = torch.zeros(len(self.weights), 1 + 3 * len(FINGERS)).index_add_(1, part, self.weights)
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
        rest_vertices = self.vertices + (shape @ self.vertex_shape).view(len(shape), -1, 3)
        turn, origin = self._bones(shape, angles)
        before = self.origins + (shape @ self.origin_shape).view(len(shape), -1, 3)
        linear = turn @ self.rest.mT
        shift = origin - (linear @ before[..., None])[..., 0]
        blended = torch.einsum("vj,bjk->bvk", self.weights, torch.cat([linear.flatten(2), shift], 2))
        vertices = (blended[..., :9].unflatten(2, (3, 3)) @ rest_vertices[..., None])[..., 0] + blended[..., 9:]
        joints = self._named(origin, vertices[:, list(TIPS)])
        return Posed(vertices, joints, turn[:, WRIST])

    def joints(self, shape: Tensor, angles: Tensor) -> Tensor:
        """(B, 21, 3) the joints alone, much faster than :meth:`posed`; tips go on along their bones."""
        turn, origin = self._bones(shape, angles)
        ends = [bones[-1] for bones in MODEL_JOINTS]
        tips = self.vertices[list(TIPS)] + (shape @ self.vertex_shape).view(len(shape), -1, 3)[:, list(TIPS)]
        before = self.origins[ends] + (shape @ self.origin_shape).view(len(shape), -1, 3)[:, ends]
        linear = turn[:, ends] @ self.rest[ends].mT
        return self._named(origin, origin[:, ends] + (linear @ (tips - before)[..., None])[..., 0])

    def _named(self, origin: Tensor, tips: Tensor) -> Tensor:
        parts = [origin[:, WRIST : WRIST + 1]]
        for finger, bones in enumerate(MODEL_JOINTS):
            parts += [origin[:, list(bones)], tips[:, finger : finger + 1]]
        joints = torch.cat(parts, 1)
        return joints

    def _bones(self, shape: Tensor, angles: Tensor) -> tuple[Tensor, Tensor]:
        """(B, bones, 3, 3) orientations and (B, bones, 3) origins."""
        delta = torch.eye(3).expand(len(shape), len(self.rest), 3, 3).clone()
        applied = angles - self.straight
        bones = torch.tensor(MODEL_JOINTS)
        bend = rotation_about_axis(applied[..., 1:].flatten(), "x").view(len(shape), len(FINGERS), 3, 3, 3)
        spread = rotation_about_axis(applied[..., 0].flatten(), "z").view(len(shape), len(FINGERS), 3, 3)
        bend[:, :, 0] = spread @ bend[:, :, 0]
        delta[:, bones] = bend
        before = self.origins + (shape @ self.origin_shape).view(len(shape), -1, 3)
        turned = self.local @ delta
        turn, origin = turned.clone(), before.clone()
        for parents, children in LEVELS:
            step = self.rest[parents].mT @ (before[:, children] - before[:, parents])[..., None]
            turn[:, children] = turn[:, parents] @ turned[:, children]
            origin[:, children] = origin[:, parents] + (turn[:, parents] @ step)[..., 0]
        return turn, origin


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
