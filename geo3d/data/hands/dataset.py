"""Hands made on demand and seen by a simulated depth camera: no files, no end, the same for the same seed."""

import math
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import OneOf, Range, Seed, Split, checked
from geo3d.data.depth_camera import DepthCamera
from geo3d.data.hands.forearm import forearm
from geo3d.data.hands.model import hand_model
from geo3d.data.hands.pose import is_held_out, random_poses
from geo3d.data.hands.skeleton import JOINTS, PARTS
from geo3d.data.hands.touching import run_into_each_other
from geo3d.data.hands.view import random_views, towards
from geo3d.data.targets import Classes, Joints, Target
from geo3d.errors import CloudError
from geo3d.seeds import generator

VERSION = 2
"""Increased whenever the same (seed, split, index) would give another cloud."""
TOGETHER = 4
"""How many poses are drawn at once, of which the first good one is taken."""
NO_PART = -1
"""The label of the forearm's points."""
FOCAL, MOST, LEAST = 230.0, 136.0, 5000
"""Focal length in pixels of the coarsest camera, the most rows of a picture, and the least pixels."""
AWAY = 1.0
"""Largest component of shape of a training hand, in standard deviations; ``held_out="shape"`` tests larger ones."""


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


class Hands(Dataset):
    """Generated right hands, each as one depth camera sees it: ``pos`` in metres, ``joints`` (21, 3), parts of points.

    Each item is a new hand of random shape, pose and place, which depends only on (seed, split, index) and the options.
    Coordinates are those of the camera (x right, y down, z forward), which is at the origin. Fingers do not run into
    each other, a stub of the forearm goes with the hand, and points are cut to a cube around the hand, as a detector
    would.

    Training hands leave out some shapes (very small, large, slender or stout ones), some viewpoints, and some patterns
    of straight and bent fingers. Each of the three is a test set of its own.

    Args:
        split: "train" or "test"; the two share no hand.
        size: Number of hands.
        seed: Another seed gives another data set.
        held_out: What the test hands have that no training hand has: ``shape``, ``view``, ``pose``, or ``none``.
        lateral: Strength of the camera's sideways noise, see :class:`geo3d.data.depth_camera.DepthCamera`; 0 for none.
        flying: Strength of its mixing of depths at silhouettes.
        axial: Strength of its noise along the ray.
        steps: Size of its steps in depth.
        holes: Strength of what it misses.
        cut: Half the side of the cube, in metres.
        jitter: How far the middle of the cube may be from that of the hand's points, in metres along each axis.

    Raises:
        ConfigError: If an option is out of its range.

    Example:
        >>> hand = Hands(size=2)[0]
        >>> hand.joints.shape, hand.pos.dtype
        (torch.Size([21, 3]), torch.float32)
    """

    generated = True
    classes: tuple[str, ...] = ()
    labels = None

    @checked
    def __init__(
        self,
        split: Split = "train",
        size: Annotated[int, Range(1, 10_000_000)] = 4096,
        seed: Seed = 0,
        held_out: Annotated[str, OneOf("none", "shape", "view", "pose")] = "none",
        lateral: Annotated[float, Range(0, 10)] = 1.0,
        flying: Annotated[float, Range(0, 10)] = 1.0,
        axial: Annotated[float, Range(0, 10)] = 1.0,
        steps: Annotated[float, Range(0, 10)] = 1.0,
        holes: Annotated[float, Range(0, 10)] = 1.0,
        cut: Annotated[float, Range(0.05, 1)] = 0.125,
        jitter: Annotated[float, Range(0, 0.1)] = 0.015,
    ) -> None:
        self.split, self.size, self.seed, self.held_out = split, size, seed, held_out
        self.cut, self.jitter = cut, jitter
        self.camera = DepthCamera(near=0.1, lateral=lateral, flying=flying, axial=axial, steps=steps, holes=holes)

    @property
    def targets(self) -> dict[str, Target]:
        """``joints`` and ``point_y``, the part of each point."""
        return {"joints": Joints(JOINTS), "point_y": Classes(PARTS, ignore=NO_PART)}

    def __len__(self) -> int:
        return self.size

    def hand(self, index: int) -> Hand:
        """The hand itself, in front of the camera.

        Raises:
            IndexError: If there is no such hand.
        """
        if not -self.size <= index < self.size:
            raise IndexError(f"index {index} is outside of {self.size} generated hands")
        draw = self._draw("hand", index)
        shape = self._shape(draw)
        angles = self._angles(shape, draw)
        return placed(shape, angles, *random_views(draw, self._test == "view"), draw)

    def __getitem__(self, index: int) -> Data:
        """The fields of one cloud; see the class."""
        hand, draw = self.hand(index), self._draw("camera", index)
        pos, label = self._seen(hand, draw)
        if not len(pos):
            raise CloudError(f"hand {index} of the {self.split} split: the camera measured nothing")
        return Data(pos=pos, point_y=label, joints=hand.joints)

    def manifest(self) -> dict[str, Any]:
        """Everything that determines the clouds, ready for JSON."""
        options = {name: getattr(self, name) for name in ("split", "size", "seed", "held_out", "cut", "jitter")}
        faults = {name: getattr(self.camera, name) for name in ("lateral", "flying", "axial", "steps", "holes")}
        return {"generator": "geo3d.data.hands", "version": VERSION, **options, **faults}

    def _draw(self, purpose: str, index: int) -> torch.Generator:
        """The draws of one hand for one purpose; those of training hands do not depend on ``held_out``."""
        return generator(self.seed, "hands", purpose, self.split, self._test, index % self.size)

    @property
    def _test(self) -> str:
        """What these hands have that no training hand has."""
        return self.held_out if self.split == "test" else "none"

    def _shape(self, draw: torch.Generator) -> Tensor:
        """(shapes,) components in standard deviations, up to ``AWAY``; of held-out shapes one is larger."""
        inside = AWAY * (2 * torch.rand(hand_model().shapes, generator=draw) - 1)
        if self._test == "shape":
            which = int(torch.randint(2, (), generator=draw))
            inside[which] = inside[which].sign() * AWAY * (1 + torch.rand((), generator=draw))
        return inside

    def _angles(self, shape: Tensor, draw: torch.Generator) -> Tensor:
        """(5, 4) the first pose that is possible and has, or has not, a pattern that is left out of training."""
        while True:
            angles = random_poses(TOGETHER, draw)
            good = is_held_out(angles) == (self._test == "pose")
            if bool(good.any()):
                good &= ~run_into_each_other(hand_model().joints(shape.expand(TOGETHER, -1), angles))
                if bool(good.any()):
                    return angles[int(good.float().argmax())]

    def _seen(self, hand: Hand, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """(N, 3) points that the camera measures and their labels, cut to the cube."""
        middle = hand.joints.mean(0)
        reach = 2.3 * (self.cut + self.jitter) / float(middle.norm())
        look, (wide, high) = aimed(hand.corner, middle, reach)
        focal = min(FOCAL * (1 + 0.5 * float(torch.rand((), generator=draw))), MOST / reach)
        focal = max(focal, math.sqrt(LEAST / (wide * high)))
        corner = hand.corner @ look.mT
        width, height = math.ceil(focal * wide) + 2, math.ceil(focal * high) + 2
        camera = self.camera.with_picture(height, width, math.degrees(2 * math.atan(width / 2 / focal)))
        picture = camera.measured(corner, draw)
        rows = picture.depth.view(-1).nonzero()[:, 0]
        label = hand.label[picture.face.view(-1)[rows]]
        pos = camera.points(picture.depth).view(-1, 3)[rows] @ look
        of_hand = pos[label != NO_PART] if bool((label != NO_PART).any()) else pos
        center = of_hand.mean(0) + self.jitter * (2 * torch.rand(3, generator=draw) - 1)
        inside = ((pos - center).abs() <= self.cut).all(1)
        return pos[inside], label[inside]


def aimed(corner: Tensor, middle: Tensor, reach: float) -> tuple[Tensor, tuple[float, float]]:
    """(3, 3) rotation to the axes of a camera that looks at triangles, and the slopes that its picture spans.

    Args:
        corner: (F, 3, 3) the triangles.
        middle: (3,) what is more than ``reach / 2`` beside this place need not be in the picture.
        reach: A slope: distance across the line of sight for each unit along it.
    """
    first = towards(middle)
    x, y, z = (corner.view(-1, 3) @ first.mT).unbind(1)
    slopes = (torch.stack([x, y]) / z).clamp(-reach / 2, reach / 2)
    low, high = slopes.aminmax(dim=1)
    ahead = torch.cat([(low + high) / 2, low.new_ones(1)])
    wide, tall = (high - low).tolist()
    return towards(ahead) @ first, (wide, tall)


def placed(shape: Tensor, angles: Tensor, view: Tensor, place: Tensor, draw: torch.Generator) -> Hand:
    """A hand with its forearm, turned by ``view`` (3, 3) and moved to ``place`` (3,)."""
    model = hand_model()
    posed = model.posed(shape[None], angles[None])
    length, width = 0.06 + 0.09 * torch.rand(1, generator=draw), 0.95 + 0.35 * torch.rand(1, generator=draw)
    bend = torch.stack([0.5 * torch.randn(1, generator=draw), 0.2 * torch.randn(1, generator=draw)], 1).clamp(
        -0.78, 0.78
    )
    arm = forearm(posed.vertices[:, model.opening], posed.wrist, length, width, bend)[0]
    corner = torch.cat([posed.vertices[0][model.faces], arm])
    label = torch.cat([model.parts, model.parts.new_full((len(arm),), NO_PART)])
    middle = posed.joints[0].mean(0)
    return Hand((corner - middle) @ view.mT + place, label, (posed.joints[0] - middle) @ view.mT + place, angles)
