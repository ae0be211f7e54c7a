"""Rooms made on demand and scanned by a simulated depth camera: no files, no end, the same for the same seed."""

from typing import Annotated, Any

import torch
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import OneOf, Range, Seed, Split, checked
from geo3d.cloud import fields, with_
from geo3d.data.depth_camera import DepthCamera
from geo3d.data.rooms.layout import Room, furnished
from geo3d.data.rooms.scan import Frame, fused, mesh_of, overlap, path, take
from geo3d.data.rooms.thing import CLASSES
from geo3d.data.shapes.placing import Draws
from geo3d.data.targets import Classes, Target
from geo3d.seeds import generator, numpy_generator

VERSION = 1
"""Increased whenever the same (seed, split, index) would give another cloud."""
OVERLAP = 0.3
"""Two frames of a pair show at least this fraction of the same places, in one direction."""


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
        view: ``scan``: all frames fused. ``frame``: what one frame shows. ``pair``: two frames that overlap, as the
            views of one cloud; the field ``view_id`` tells them apart.
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
        room = self.room(index)
        draws = self._draws("path", index)
        x, y = draws.real(0.3, 0.7) * room.shell.width, draws.real(0.3, 0.7) * room.shell.depth
        light = torch.tensor([x, y, 2.2], dtype=torch.float32)
        mesh = mesh_of(room)
        return [
            take(mesh, pose, self.camera, light, generator(self.seed, "frame", self.split, index % self.size, number))
            for number, pose in enumerate(path(room, self.frames, draws))
        ]

    def __getitem__(self, index: int) -> Data:
        """The fields of one cloud; see the class."""
        frames = [frame for frame in self.scan(index) if len(frame.cloud.pos)]
        draw = generator(self.seed, "points", self.split, index % self.size)
        if self.view == "frame":
            cloud = frames[int(torch.randint(len(frames), (), generator=draw))].cloud
        elif self.view == "scan":
            cloud = fused(frames, self.voxel)
        else:
            cloud = self._pair(frames, draw)
        chosen = torch.randperm(len(cloud.pos), generator=draw)[: self.points]
        return with_(cloud, **{name: value[chosen] for name, _, value in fields(cloud)})

    def _pair(self, frames: list[Frame], draw: torch.Generator) -> Data:
        """The points of two frames that overlap enough; of those that overlap most, if none does."""
        order = torch.randperm(len(frames), generator=draw).tolist()
        best: tuple[float, int, int] = (-1.0, 0, 0)
        for a in order:
            for b in order:
                if a != b and best[0] < OVERLAP:
                    shared = max(overlap(frames[a], frames[b], self.camera), overlap(frames[b], frames[a], self.camera))
                    best = max(best, (shared, a, b))
        pair = [frames[number] for number in best[1:]]
        view = [torch.full((len(frame.cloud.pos),), number) for number, frame in enumerate(pair)]
        return with_(fused(pair, 0.0), view_id=torch.cat(view))

    def _draws(self, purpose: str, index: int) -> Draws:
        return Draws(numpy_generator(self.seed, purpose, self.split, index % self.size))

    def manifest(self) -> dict[str, Any]:
        """Everything that determines the clouds, ready for JSON."""
        options = ("split", "size", "points", "seed", "view", "frames", "voxel", "noise")
        return {"generator": "geo3d.data.rooms", "version": VERSION} | {name: getattr(self, name) for name in options}
