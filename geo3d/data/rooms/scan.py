"""A scan of a room: frames of a depth camera that is carried through it."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geo3d.cloud import Layout
from geo3d.data.depth_camera import DepthCamera
from geo3d.data.rooms.layout import Room
from geo3d.data.rooms.thing import CLASSES, OF_THE_ROOM, Area, area_of
from geo3d.data.shapes.placing import Draws
from geo3d.geometry.camera import looking, to_camera, to_world
from geo3d.ops.search.voxel import voxel_groups

CLEARANCE = 0.3
"""The camera keeps this far from walls, and from what is as high as it is, in metres."""
SAME = 0.05
"""Points of two frames are the same place if the depths agree within this many metres."""


class Frame(NamedTuple):
    """What the camera sees from one place; all tensors but the pose have one row for each measured pixel."""

    pose: Tensor
    """(4, 4) from the camera's axes (x right, y down, z forward) to those of the room."""
    depth: Tensor
    """(H, W) metres, 0 where nothing was measured."""
    cloud: Data
    """``pos`` in the room's axes, ``rgb``, ``normal``, ``point_y`` and ``instance``."""


class Mesh(NamedTuple):
    """All triangles of a room."""

    corner: Tensor
    """(F, 3, 3)"""
    color: Tensor
    """(F, 3)"""
    label: Tensor
    """(F,) class"""
    instance: Tensor
    """(F,) number of the thing, from 1 on; 0 for the room itself"""
    normal: Tensor
    """(F, 3) unit normals, towards either side"""


def mesh_of(room: Room) -> Mesh:
    """The triangles of all things."""
    things = room.things
    counts = [len(thing.corner) for thing in things]
    corner = torch.from_numpy(np.concatenate([thing.corner for thing in things]).astype(np.float32))
    normal = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    repeat = torch.tensor(counts)
    return Mesh(
        corner,
        torch.from_numpy(np.concatenate([thing.color for thing in things]).astype(np.float32)),
        torch.tensor([CLASSES.index(thing.label) for thing in things]).repeat_interleave(repeat),
        torch.tensor(
            [0 if thing.label in OF_THE_ROOM else number for number, thing in enumerate(things, 1)]
        ).repeat_interleave(repeat),
        torch.nn.functional.normalize(normal, dim=1),
    )


def path(room: Room, frames: int, d: Draws) -> list[Tensor]:
    """Poses of a camera that is carried along the walls at eye height, looking across the room and to both sides."""
    width, depth = room.shell.width, room.shell.depth
    inner = [area_of(thing) for thing in room.things if thing.low[2] < 1.8 and thing.high[2] > 1.2]
    inner = [area for area in inner if area.right - area.left < width - 1e-3 and area.back - area.front < depth - 1e-3]
    start, sense = d.real(0, 2 * np.pi), d.pick(-1.0, 1.0)
    poses = []
    for number in range(frames):
        angle = start + sense * number / frames * 2 * np.pi
        x, y = _free_place(room, inner, angle, d)
        across = np.arctan2(depth / 2 - y, width / 2 - x) + d.real(-0.9, 0.9)
        reach, height = d.real(1.5, 3.5), d.real(1.3, 1.75)
        drop = d.pick(d.real(0.4, 1.6), d.real(0.4, 1.6), d.real(0.4, 1.6), d.real(-0.2, 0.5), d.real(-1.3, -0.3))
        eye = torch.tensor([x, y, height], dtype=torch.float32)
        towards = torch.tensor([reach * np.cos(across), reach * np.sin(across), -drop], dtype=torch.float32)
        target = eye + towards
        poses.append(looking(eye, target))
    return poses


def beside(room: Room, pose: Tensor, d: Draws) -> Tensor:
    """The pose of a camera that has moved on a little, inside the room, and turned a little."""
    eye, forward = pose[:3, 3], pose[:3, 2]
    x = min(max(float(eye[0]) + d.real(-0.7, 0.7), CLEARANCE), room.shell.width - CLEARANCE)
    y = min(max(float(eye[1]) + d.real(-0.7, 0.7), CLEARANCE), room.shell.depth - CLEARANCE)
    moved = torch.tensor([x, y, float(eye[2]) + d.real(-0.2, 0.2)], dtype=torch.float32)
    turn = d.real(-0.5, 0.5)
    c, s = np.cos(turn), np.sin(turn)
    ahead = [c * float(forward[0]) - s * float(forward[1]), s * float(forward[0]) + c * float(forward[1])]
    towards = torch.tensor([*ahead, float(forward[2]) + d.real(-0.15, 0.15)], dtype=torch.float32)
    return looking(moved, moved + towards)


def _free_place(room: Room, inner: list[Area], angle: float, d: Draws) -> tuple[float, float]:
    """A place for the camera in this direction from the middle, away from all ``inner`` areas; else the middle."""
    width, depth = room.shell.width, room.shell.depth
    for share in (*(d.real(0.55, 0.85) for _ in range(4)), 0.4, 0.25):
        x = width / 2 + (width / 2 - CLEARANCE) * share * np.cos(angle)
        y = depth / 2 + (depth / 2 - CLEARANCE) * share * np.sin(angle)
        if not any(Area(x, x, y, y).meets(area, CLEARANCE) for area in inner):
            return x, y
    return width / 2, depth / 2


def take(mesh: Mesh, pose: Tensor, camera: DepthCamera, light: Tensor, generator: torch.Generator) -> Frame:
    """The frame that a camera takes from a pose.

    Args:
        mesh: The room.
        pose: (4, 4) of the camera.
        camera: The camera.
        light: (3,) place of the lamp that shades the colours.
        generator: Draws the faults of depth and colour.
    """
    corner = to_camera(mesh.corner, pose)
    glass = mesh.label == CLASSES.index("window")
    depth, face = camera.measured(corner, generator, glass)
    seen = face >= 0
    face = face[seen]
    pos = to_world(camera.points(depth)[seen], pose)
    normal = mesh.normal[face]
    normal = torch.where((normal * (pose[:3, 3] - pos)).sum(1, keepdim=True) < 0, -normal, normal)
    cloud = Data(
        pos=pos,
        rgb=_shaded(mesh.color[face], pos, normal, light, generator),
        normal=normal,
        point_y=mesh.label[face],
        instance=mesh.instance[face],
    )
    return Frame(pose, depth, cloud)


def _shaded(color: Tensor, pos: Tensor, normal: Tensor, light: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 3) colours under a lamp, with the exposure, tint and noise of one frame."""
    way = torch.nn.functional.normalize(light - pos, dim=1)
    shade = 0.55 + 0.45 * (way * normal).sum(1, keepdim=True).clamp(min=0)
    gain = 0.85 + 0.3 * torch.rand(1, generator=generator, dtype=pos.dtype)
    tint = 1 + 0.04 * torch.randn(3, generator=generator, dtype=pos.dtype)
    noise = 0.02 * torch.randn(color.shape, generator=generator, dtype=pos.dtype)
    return (color * shade * gain * tint + noise).clamp(0, 1)


def fused(frames: list[Frame], voxel: float) -> Data:
    """One cloud of all frames; of the points in the same voxel the first is kept. With a size of 0 all are kept."""
    clouds = [frame.cloud for frame in frames]
    joined = {name: torch.cat([cloud[name] for cloud in clouds]) for name in clouds[0].keys()}  # noqa: SIM118
    if voxel > 0:
        _, first, _, _ = voxel_groups(joined["pos"], Layout(torch.tensor([0, len(joined["pos"])])), voxel)
        joined = {name: value[first] for name, value in joined.items()}
    return Data(**joined)


def overlap(a: Frame, b: Frame, camera: DepthCamera) -> float:
    """The fraction of the points of ``a`` that ``b`` sees at the same place."""
    if not len(a.cloud.pos):
        return 0.0
    x, y, z = to_camera(a.cloud.pos, b.pose).unbind(1)
    safe = z.clamp(min=1e-3)
    u = (camera.focal * x / safe + camera.center[0]).round().long()
    v = (camera.focal * y / safe + camera.center[1]).round().long()
    inside = (z > 0) & (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    there = b.depth[v.clamp(0, camera.height - 1), u.clamp(0, camera.width - 1)]
    return float((inside & (there > 0) & ((there - z).abs() < SAME)).float().mean())
