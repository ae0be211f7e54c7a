"""The files of DexYCB: a sequence's description, a camera's numbers, and the labels of a frame."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from geo3d.data.hands.dexycb_setups import SERIALS
from geo3d.data.hands.from_depth import Camera, check_camera
from geo3d.data.hands.skeleton import JOINTS
from geo3d.errors import CloudError
from geo3d.io.arrays import read_archive
from geo3d.io.yaml import read_yaml

WIDTH, HEIGHT = 640, 480
HAND = 255
"""The value of ``seg`` at pixels of the hand; objects have 1 to 21."""
SIDES = (["right"], ["left"])
NONE = -1.0
"""All coordinates of ``joint_3d`` have this value in a frame without a hand."""


class Recording(NamedTuple):
    """One sequence, as its files ``meta.yml`` and ``pose.npz`` describe it."""

    folder: Path
    side: str
    serials: tuple[str, ...]
    hand: np.ndarray
    """(frames,) bool, whether a frame has a hand."""


def read_recording(folder: Path) -> Recording:
    """What a sequence's ``meta.yml`` and ``pose.npz`` say; no frame is opened.

    Raises:
        CloudError: If one of them is missing, damaged, or does not fit the other.
    """
    path = folder / "meta.yml"
    meta = _mapping(path)
    serials, frames, sides = (meta.get(name) for name in ("serials", "num_frames", "mano_sides"))
    names = tuple(map(str, serials)) if isinstance(serials, list) else ()
    if not names or not set(names) <= set(SERIALS) or type(frames) is not int or frames < 0 or sides not in SIDES:
        raise CloudError(
            f"{path}: expected serials (of the eight cameras), num_frames and mano_sides ([right] or [left]); found "
            f"{serials}, {frames} and {sides}"[:600]
        )
    hand = np.zeros(0, bool)
    if frames:
        pose = folder / "pose.npz"
        mano = read_archive(pose, lambda names: {"pose_m"}).get("pose_m")
        if mano is None or mano.ndim != 3 or mano.shape[:2] != (frames, 1):
            shape = None if mano is None else mano.shape
            raise CloudError(f"{pose}: expected pose_m of shape ({frames}, 1, 51), as {path.name} says; found {shape}")
        hand = (mano != 0).any((1, 2))  # it is 0 where no hand was there
    return Recording(folder, sides[0], names, hand)


def read_camera(root: Path, serial: str) -> Camera:
    """The colour camera with this serial number, to which its depth pictures are aligned.

    Raises:
        CloudError: If the file of its numbers is missing or damaged, or they make no sense.
    """
    path = root / "calibration" / "intrinsics" / f"{serial}_{WIDTH}x{HEIGHT}.yml"
    names, stored = ("fx", "fy", "ppx", "ppy"), _mapping(path).get("color")
    color = stored if isinstance(stored, dict) else {}
    values = [float(color[name]) for name in names if type(color.get(name)) in (int, float)]
    if len(values) < len(names):
        raise CloudError(f"{path}: expected color with the numbers {', '.join(names)}; found {str(stored)[:80]}")
    camera = Camera(*values)
    check_camera(camera, WIDTH, HEIGHT, str(path))
    return camera


def read_labels(path: Path, pixels: bool) -> tuple[Tensor, Tensor | None]:
    """(21, 3) float32 the joints of a frame, in metres in the camera's axes, and (480, 640) bool the hand's pixels.

    Args:
        path: ``labels_000000.npz``, ...
        pixels: Whether to read the labels of pixels; otherwise they are None.

    Raises:
        CloudError: If the file is missing or damaged, lacks an array, or the frame has no hand.
    """
    present: list[str] = []

    def wanted(names: list[str]) -> set[str]:
        present.extend(names)
        return {"joint_3d", "seg"} if pixels else {"joint_3d"}

    arrays = read_archive(path, wanted)
    joints = arrays.get("joint_3d")
    if joints is None or joints.shape != (1, len(JOINTS), 3) or joints.dtype.kind != "f":
        there = f"the arrays {sorted(present)}" if joints is None else f"{joints.shape} of {joints.dtype}"
        raise CloudError(f"{path}: expected joint_3d of shape (1, {len(JOINTS)}, 3) and floats; found {there}")
    if (joints == NONE).all():
        raise CloudError(f"{path}: all joints are -1, so there is no hand, but pose.npz has one; remove this frame")
    return torch.from_numpy(joints[0].astype(np.float32)), _hand(arrays.get("seg"), path) if pixels else None


def _hand(seg: np.ndarray | None, path: Path) -> Tensor:
    """(480, 640) bool, the pixels of the hand."""
    if seg is None or seg.shape != (HEIGHT, WIDTH):
        shape = "none" if seg is None else seg.shape
        raise CloudError(f"{path}: expected seg of shape ({HEIGHT}, {WIDTH}), found {shape}; give only_hand=false")
    if not (seg == HAND).any():
        raise CloudError(f"{path}: no pixel of seg is {HAND}, the hand's label; give only_hand=false")
    return torch.from_numpy(seg == HAND)


def _mapping(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise CloudError(f"{path}: expected a mapping of names to values, found {str(content)[:80]!r}")
    return content
