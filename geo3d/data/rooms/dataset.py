"""Rooms made on demand and scanned by a simulated depth camera: no files, no end, the same for the same seed."""

from typing import Annotated, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import OneOf, Range, Seed, Split, checked
from geo3d.cloud import fields, with_
from geo3d.data.depth_camera import DepthCamera
from geo3d.data.rooms.layout import Room, furnished
from geo3d.data.rooms.scan import Frame, beside, fused, mesh_of, overlap, path, take
from geo3d.data.rooms.thing import CLASSES
from geo3d.data.shapes.placing import Draws
from geo3d.data.targets import Classes, Target
from geo3d.errors import CloudError
from geo3d.seeds import generator, numpy_generator

VERSION = 3
"""Increased whenever the same (seed, split, index) would give another cloud."""
OVERLAP = 0.3
"""Each frame of a pair shows at least this fraction of what the other shows."""
TRIES = 12
"""How many second frames are tried; the one that overlaps most is taken if none overlaps enough."""


class Rooms(Dataset):
    """Generated indoor scenes in metres, z up from the floor: ``pos``, ``rgb``, ``normal``, classes and instances.

    Each item is a new room, which depends only on (seed, split, index) and the options. Its walls, floor and ceiling
    have a door, windows, pictures and curtains; furniture of ``geo3d.data.shapes`` stands in it at its true size with
    small things on top. A depth camera is carried through it (``geo3d.data.depth_camera``).

    Args:
        split: "train" or "test"; the two share no room.
        size: Number of rooms.
        points: A cloud has at most this many points, drawn at random.
        seed: Another seed gives another data set.
        view: ``scan``: all frames fused. ``frame``: what one frame shows. ``pair``: one frame and another taken a
            little further on, which overlaps, as the views of one cloud; the field ``view_id`` tells them apart.
        frames: How many frames the camera takes of a room.
        voxel: Of the points of a scan in a voxel of this size, in metres, one is kept; 0 keeps all.
        noise: Strength of the camera's faults; 0 for none.

    Raises:
        ConfigError: If an option is out of its range.

    Example:
        >>> room = Rooms(size=2, points=500, frames=2)[0]
        >>> room.pos.shape, room.rgb.shape, room.point_y.dtype
        (torch.Size([500, 3]), torch.Size([500, 3]), torch.int64)
    """

    generated = True
    sampled = 16
    """How many rooms ``geo3d data check`` makes."""
    classes: tuple[str, ...] = ()
    labels = None

    @checked
    def __init__(
        self,
        split: Split = "train",
        size: Annotated[int, Range(1, 10_000_000)] = 512,
        points: Annotated[int, Range(1, 10_000_000)] = 16384,
        seed: Seed = 0,
        view: Annotated[str, OneOf("scan", "frame", "pair")] = "scan",
        frames: Annotated[int, Range(1, 1000)] = 20,
        voxel: Annotated[float, Range(0, 10)] = 0.02,
        noise: Annotated[float, Range(0, 10)] = 1.0,
    ) -> None:
        self.split, self.size, self.points, self.seed = split, size, points, seed
        self.view, self.frames, self.voxel, self.noise = view, frames, voxel, noise
        self.camera = DepthCamera(lateral=noise, flying=noise, axial=noise, steps=noise, holes=noise)

    @property
    def targets(self) -> dict[str, Target]:
        """``point_y``: what each point belongs to."""
        return {"point_y": Classes(CLASSES, ignore=-1)}

    def __len__(self) -> int:
        return self.size

    def room(self, index: int) -> Room:
        """The furnished room itself, as triangles."""
        if not -self.size <= index < self.size:
            raise IndexError(f"index {index} is outside of {self.size} generated rooms")
        return furnished(self._draws("rooms", index))

    def scan(self, index: int) -> list[Frame]:
        """All frames that the camera takes of a room, with their poses."""
        taken = _Taken(self, index)
        return [taken.frame(pose, number) for number, pose in enumerate(taken.poses)]

    def __getitem__(self, index: int) -> Data:
        """The fields of one cloud; see the class."""
        taken, draw = _Taken(self, index), generator(self.seed, "points", self.split, index % self.size)
        chosen = int(torch.randint(len(taken.poses), (), generator=draw))
        if self.view == "scan":
            cloud = fused([taken.frame(pose, number) for number, pose in enumerate(taken.poses)], self.voxel)
        elif self.view == "frame":
            cloud = taken.frame(taken.poses[chosen], chosen).cloud
        else:
            cloud = self._pair(taken, chosen)
        if not len(cloud.pos):
            raise CloudError(f"room {index} of the {self.split} split: the camera measured nothing; take more frames")
        kept = torch.randperm(len(cloud.pos), generator=draw)[: self.points]
        return with_(cloud, **{name: value[kept] for name, _, value in fields(cloud)})

    def _pair(self, taken: "_Taken", number: int) -> Data:
        """The points of a frame and of one that is taken a little further on and overlaps enough."""
        first, draws = taken.frame(taken.poses[number], number), taken.draws
        best = -1.0
        for attempt in range(TRIES):
            other = taken.frame(beside(taken.room, taken.poses[number], draws), self.frames + attempt)
            shared = min(overlap(first, other, self.camera), overlap(other, first, self.camera))
            if shared > best:
                best, second = shared, other
            if best >= OVERLAP:
                break
        view = [torch.full((len(frame.cloud.pos),), which) for which, frame in enumerate((first, second))]
        return with_(fused([first, second], 0.0), view_id=torch.cat(view))

    def _draws(self, purpose: str, index: int) -> Draws:
        return Draws(numpy_generator(self.seed, purpose, self.split, index % self.size))

    def manifest(self) -> dict[str, Any]:
        """Everything that determines the clouds, ready for JSON."""
        options = ("split", "size", "points", "seed", "view", "frames", "voxel", "noise")
        return {"generator": "geo3d.data.rooms", "version": VERSION} | {name: getattr(self, name) for name in options}


class _Taken:
    """A room with the path of a camera, and the frames that it takes on demand."""

    def __init__(self, data: Rooms, index: int) -> None:
        self.data, self.index, self.room = data, index, data.room(index)
        self.draws = data._draws("path", index)
        x, y = self.draws.real(0.3, 0.7) * self.room.shell.width, self.draws.real(0.3, 0.7) * self.room.shell.depth
        self.light = torch.tensor([x, y, 2.2], dtype=torch.float32)
        self.mesh, self.poses = mesh_of(self.room), path(self.room, data.frames, self.draws)

    def frame(self, pose: Tensor, number: int) -> Frame:
        """What the camera sees from a pose; the number keys its faults."""
        key = (self.data.seed, "frame", self.data.split, self.index % self.data.size, number)
        return take(self.mesh, pose, self.data.camera, self.light, generator(*key))
