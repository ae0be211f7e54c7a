"""The hands of Imperial College: ten people for training, two sequences for testing, one depth camera."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geo3d.checks import Split, checked
from geo3d.data.hands.from_depth import Camera, Center, Cut, metres
from geo3d.data.hands.pictures import HandPictures
from geo3d.errors import CloudError
from geo3d.io.files import existing_folder, read_bytes
from geo3d.io.numbers import numbers, plain, shown
from geo3d.pose_metrics import MILLIMETRES

LISTS = {"train": ("Training/labels.txt",), "test": ("Testing/test_seq_1.txt", "Testing/test_seq_2.txt")}
TREE = "Training/labels.txt, Testing/test_seq_1.txt, Testing/test_seq_2.txt, and a folder Depth beside them"
WIDTH, HEIGHT = 320, 240
CAMERA = Camera(240.99, 240.96, 160.0, 120.0)
JOINTS = (
    "palm",
    *(
        f"{finger}_{name}"
        for finger in ("thumb", "index", "middle", "ring", "little")
        for name in ("root", "mid", "tip")
    ),
)
"""The 16 joints, in the order of the files."""
PICTURE = re.compile(r"(?:(?!\.)[\w.+-]+/)+(?!\.)[\w.+-]+\.png", re.ASCII)
ROTATED = re.compile(r"-?\d{1,3}(?:-5)?/.*", re.ASCII)
"""Turned copies are in a folder named by the angle, such as 22-5; other sequences have names such as 201403121135."""
CHUNK = 4096
"""How many lines are taken apart at once."""


class ICVL(HandPictures):
    """Right hands before a time-of-flight camera (Tang et al., CVPR 2014): ``pos`` and 16 ``joints``.

    Coordinates are metres in the camera's axes (x right, y down, z forward).

    Args:
        root: The folder with ``Training`` and ``Testing``.
        split: "train", or "test" for both test sequences, the first one first.
        rotated: Keep the training pictures that are copies of others, turned in the plane.
        cut: Half the side of the cube that is cut out, in metres.
        center: The middle of the cube. ``joints``: the mean of the true joints, as published results take it, which
            uses a part of the answer. ``points``: the mass of points nearest to the camera.

    Raises:
        CloudError: If the folder lacks files, or a list is damaged. A damaged picture raises the error when it is read.
    """

    data, names, camera, options = "icvl", JOINTS, CAMERA, ("split", "rotated", "cut", "center")

    @checked
    def __init__(
        self,
        root: str,
        split: Split = "train",
        rotated: bool = True,
        cut: Cut = 0.125,
        center: Center = "joints",
    ) -> None:
        self.root, self.split, self.rotated = existing_folder(root, TREE), split, rotated
        self.cut, self.center = cut, center
        self.lists = [self.root / name for name in LISTS[split]]
        entries = [read_list(path, rotated) for path in self.lists]
        self.files = [file for files, _ in entries for file in files]
        self.joints = torch.cat([joints for _, joints in entries])

    def depth(self, path: Path) -> Tensor:
        """(240, 320) float32 metres of one depth picture; where nothing was measured it is 0, or above 30."""
        return metres(path, WIDTH, HEIGHT)


def read_list(path: Path, rotated: bool) -> tuple[list[Path], Tensor]:
    """The depth pictures of a list, and their joints (n, 16, 3) float32 in metres, in the camera's axes.

    Args:
        path: The list, beside the folder ``Depth``.
        rotated: Whether to keep the copies that are turned.

    Raises:
        CloudError: If the list is missing or damaged, no line is left, or pictures are missing.
    """
    content = plain(read_bytes(path), str(path))
    lines = [line for line in content.splitlines() if line.strip()]
    if not rotated:
        lines = [line for line in lines if not ROTATED.match(line.decode("ascii", "replace"))]
    if not lines:
        raise CloudError(f"{path}: expected a picture and 48 numbers in each line; no line is left")
    names, joints = list[str](), list[Tensor]()
    for start in range(0, len(lines), CHUNK):
        words = [line.split() for line in lines[start : start + CHUNK]]
        names += [_name(each, str(path)) for each in words]
        uvd = numbers([word for each in words for word in each[1:]], str(path))
        joints.append(metric(uvd.reshape(-1, len(JOINTS), 3)))
    depth = path.parent / "Depth"
    _check_pictures(names, existing_folder(depth), path)
    return [depth / name for name in names], torch.cat(joints)


def metric(uvd: np.ndarray) -> Tensor:
    """(n, J, 3) float32 joints in metres in the camera's axes, from pixels u, v and depths in millimetres."""
    x, y = ((uvd[..., i] - CAMERA[2 + i]) * uvd[..., 2] / CAMERA[i] for i in range(2))
    return torch.from_numpy((np.stack([x, y, uvd[..., 2]], -1) / MILLIMETRES).astype(np.float32))


def _name(words: Sequence[bytes], source: str) -> str:
    """The picture of a line, after a check that it has as many numbers as joints need."""
    name, wanted = words[0].decode("utf-8", "replace"), 3 * len(JOINTS)
    if not PICTURE.fullmatch(name):
        raise CloudError(
            f"{source}: expected SEQUENCE/image_0000.png at the beginning of a line, found {shown(words[0])}"
        )
    if len(words) != 1 + wanted:
        raise CloudError(
            f"{source}: expected {wanted} numbers for {name}, found {len(words) - 1}; the file may be cut off"
        )
    return name


def _check_pictures(names: Sequence[str], folder: Path, source: Path) -> None:
    """Check that all pictures of a list exist; each folder is listed once."""
    there: dict[str, set[str]] = {}
    for parent in {name.rpartition("/")[0] for name in names}:
        there[parent] = set(os.listdir(folder / parent)) if (folder / parent).is_dir() else set()
    missing = [name for name in names if name.rpartition("/")[2] not in there[name.rpartition("/")[0]]]
    if missing:
        cure = "; give rotated=false to do without copies" if all(map(ROTATED.match, missing)) else ""
        raise CloudError(
            f"{source}: {len(missing)} of {len(names)} pictures are missing in {folder.name}, {missing[0]} first{cure}"
        )
