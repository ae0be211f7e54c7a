"""Hands made on demand and seen by a simulated depth camera: no files, no end, the same for the same seed."""

import math
import operator
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import OneOf, Range, Seed, Split, checked
from geo3d.data.depth_camera import DepthCamera, Picture
from geo3d.data.hands.drawing import possible_poses, random_hands
from geo3d.data.hands.draws import normal, uniform
from geo3d.data.hands.from_depth import Camera
from geo3d.data.hands.motion import DRIFT, NO_PART, TURN, Hand, Motion, carried
from geo3d.data.hands.skeleton import JOINTS, PARTS
from geo3d.data.hands.view import towards
from geo3d.data.targets import Classes, Joints, Target
from geo3d.errors import CloudError
from geo3d.seeds import Key, generator

VERSION = 3
"""Increased whenever the same (seed, split, index) would give another cloud."""
OPTIONS = ("split", "size", "seed", "held_out", "cut", "jitter", "view", "apart")
TRIES = 20
"""How many motions are tried before a hand stays as it is."""
BLOCK, KEPT = 32, 4096
"""How many hands are drawn together, and of how many such blocks the poses are kept (57 MB). Beyond 131,072 hands a
random order takes longer, because a whole block is drawn for most of them."""
FOCAL, MOST, LEAST = 230.0, 136.0, 5000
"""Focal length in pixels of the coarsest camera, the most rows of a picture, and the least pixels."""


class Seen(NamedTuple):
    """What the camera measures of a hand."""

    pos: Tensor
    """(N, 3)"""
    face: Tensor
    """(N,) the triangle of each point."""
    label: Tensor
    """(N,) its part, -1 for the forearm."""


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
        test_size: Number of hands of the test split; None for ``size``.
        seed: Another seed gives another data set.
        held_out: What the test hands have that no training hand has: ``shape``, ``view``, ``pose``, or ``none``.
        lateral: Strength of the camera's sideways noise, see :class:`geo3d.data.depth_camera.DepthCamera`; 0 for none.
        flying: Strength of its mixing of depths at silhouettes.
        axial: Strength of its noise along the ray.
        steps: Size of its steps in depth.
        holes: Strength of what it misses.
        cut: Half the side of the cube, in metres.
        jitter: How far the middle of the cube may be from that of the hand's points, in metres along each axis.
        view: ``single``, or ``pair``: two moments of a moving hand as the two views of one cloud, for pretraining.
        apart: Time between the two moments. A hand needs a time of 1 to go from one pose to the next.

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
        view: Annotated[str, OneOf("single", "pair")] = "single",
        apart: Annotated[float, Range(0, 1)] = 0.2,
        test_size: Annotated[int, Range(1, 10_000_000)] | None = None,
    ) -> None:
        self.split, self.seed, self.held_out = split, seed, held_out
        self.size = size if split == "train" or test_size is None else test_size
        self.cut, self.jitter, self.view, self.apart = cut, jitter, view, apart
        self.camera = DepthCamera(near=0.1, lateral=lateral, flying=flying, axial=axial, steps=steps, holes=holes)
        self._blocks: dict[int, Motion] = {}

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
        return self._start(index).start()

    def motion(self, index: int) -> Motion:
        """How this hand moves on: to another pose, a little turned and shifted, without running into itself.

        Training hands go through no pose and no viewpoint that training leaves out.

        Raises:
            IndexError: If there is no such hand.
        """
        start, draw = self._start(index), self._draw("motion", index)
        for _ in range(TRIES):
            turn, drift = TURN * normal(3, generator=draw), DRIFT * normal(3, generator=draw)
            moved = start._replace(
                last=possible_poses(start.shape[None], draw, self._test == "pose")[0], turn=turn, drift=drift
            )
            if moved.is_like(self._test == "pose", self._test == "view"):
                return moved
        return start  # a hand in a corner of what is possible stays as it is

    def picture(self, index: int) -> tuple[Tensor, Camera, Tensor]:
        """The depth picture (H, W) of a hand in metres, 0 for none, its camera, and the joints (21, 3) in its axes.

        The camera is in the same place as for the cloud, but looks at the hand.

        Raises:
            IndexError: If there is no such hand.
        """
        hand = self.hand(index)
        camera, look, picture = self._pictured(hand, self._draw("camera", index))
        return picture.depth, Camera(camera.focal, camera.focal, *camera.center), hand.joints @ look.mT

    @checked
    def clip(self, index: int, frames: Annotated[int, Range(1, 100_000)] = 8) -> list[Data]:
        """Clouds of a moving hand at equal times, with ``flow`` (N, 3) to the same places in the next frame.

        The flow of the last frame is 0. Each frame is measured anew: with other noise and other points.

        Raises:
            ConfigError: If the number of frames is out of its range.
            IndexError: If there is no such hand.
            CloudError: If the camera measured nothing in a frame.
        """
        motion = self.motion(index)
        hands = [motion.at(frame / max(1, frames - 1)) for frame in range(frames)]
        clouds = []
        for frame, (hand, later) in enumerate(zip(hands, [*hands[1:], hands[-1]], strict=True)):
            seen = self._measured(hand, index, "clip", frame)
            flow = carried(seen.pos, seen.face, hand.corner, later.corner) - seen.pos
            clouds.append(Data(pos=seen.pos, point_y=seen.label, flow=flow, joints=hand.joints))
        return clouds

    def __getitem__(self, index: int) -> Data:
        """The fields of one cloud; see the class."""
        if self.view == "pair":
            return self._pair(index)
        hand = self.hand(index)
        seen = self._measured(hand, index, "camera")
        return Data(pos=seen.pos, point_y=seen.label, joints=hand.joints)

    def _pair(self, index: int) -> Data:
        """Two moments of a motion as one cloud with two views; the joints are those of the first."""
        motion, draw = self.motion(index), self._draw("pair", index)
        first = (1 - self.apart) * float(uniform((), generator=draw))
        hands = [motion.at(time) for time in (first, first + self.apart)]
        seen = [self._measured(hand, index, "camera", number) for number, hand in enumerate(hands)]
        view_id = torch.cat([torch.full((len(each.pos),), number) for number, each in enumerate(seen)])
        pos, label = torch.cat([each.pos for each in seen]), torch.cat([each.label for each in seen])
        return Data(pos=pos, point_y=label, view_id=view_id, joints=hands[0].joints)

    def manifest(self) -> dict[str, Any]:
        """Everything that determines the clouds, ready for JSON."""
        options = {name: getattr(self, name) for name in OPTIONS}
        faults = {name: getattr(self.camera, name) for name in ("lateral", "flying", "axial", "steps", "holes")}
        return {"generator": "geo3d.data.hands", "version": VERSION, **options, **faults}

    def _draw(self, purpose: str, index: int, *key: Key) -> torch.Generator:
        """The draws of one hand for one purpose; those of training hands do not depend on ``held_out``."""
        number = operator.index(index) % self.size  # a NumPy number would make another key
        return generator(self.seed, "hands", purpose, self.split, self._test, number, *key)

    def _start(self, index: int) -> Motion:
        """The hand at rest."""
        if not -self.size <= index < self.size:
            raise IndexError(f"index {index} is outside of {self.size} generated hands")
        block, row = divmod(index % self.size, BLOCK)
        if block not in self._blocks:
            if len(self._blocks) == KEPT:
                del self._blocks[next(iter(self._blocks))]  # the oldest
            self._blocks[block] = random_hands(BLOCK, self._draw("hands", block), self._test)
        return self._blocks[block].of(row)

    @property
    def _test(self) -> str:
        """What these hands have that no training hand has."""
        return self.held_out if self.split == "test" else "none"

    def _measured(self, hand: Hand, index: int, purpose: str, *key: Key) -> Seen:
        """What the camera measures, cut to the cube.

        Raises:
            CloudError: If that is nothing.
        """
        seen = self._seen(hand, self._draw(purpose, index, *key))
        if not len(seen.pos):
            raise CloudError(f"hand {index} of the {self.split} split: the camera measured nothing")
        return seen

    def _pictured(self, hand: Hand, draw: torch.Generator) -> tuple[DepthCamera, Tensor, Picture]:
        """A camera that looks at the hand, the rotation (3, 3) to its axes, and its picture."""
        middle = hand.joints.mean(0)
        reach = 2.3 * (self.cut + self.jitter) / float(middle.norm())
        look, (wide, high) = aimed(hand.corner, middle, reach)
        focal = min(FOCAL * (1 + 0.5 * float(uniform((), generator=draw))), MOST / reach)
        focal = max(focal, math.sqrt(LEAST / (wide * high)))
        width, height = math.ceil(focal * wide) + 2, math.ceil(focal * high) + 2
        camera = self.camera.with_picture(height, width, math.degrees(2 * math.atan(width / 2 / focal)))
        return camera, look, camera.measured(hand.corner @ look.mT, draw)

    def _seen(self, hand: Hand, draw: torch.Generator) -> Seen:
        camera, look, picture = self._pictured(hand, draw)
        rows = picture.depth.view(-1).nonzero()[:, 0]
        face = picture.face.view(-1)[rows]
        label = hand.label[face]
        pos = camera.points(picture.depth).view(-1, 3)[rows] @ look
        of_hand = pos[label != NO_PART] if bool((label != NO_PART).any()) else pos
        center = of_hand.mean(0) + self.jitter * (2 * uniform(3, generator=draw) - 1)
        inside = ((pos - center).abs() <= self.cut).all(1)
        return Seen(pos[inside], face[inside], label[inside])


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
