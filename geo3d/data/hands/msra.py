"""MSRA15: nine people, seventeen gestures, one depth camera."""

import os
import re
import struct
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from geo3d.checks import Range, Split, checked
from geo3d.data.hands.from_depth import Camera, Center, Cut
from geo3d.data.hands.pictures import HandPictures
from geo3d.data.hands.skeleton import JOINTS
from geo3d.data.hands.subjects import check_subjects
from geo3d.errors import CloudError
from geo3d.io.files import existing_folder, read_bytes
from geo3d.io.numbers import count, numbers, plain
from geo3d.pose_metrics import MILLIMETRES

TREE = "P0 to P8, with GESTURE/joint.txt and GESTURE/000000_depth.bin, ... in each"
SUBJECTS = 9
WIDTH, HEIGHT = 320, 240
CAMERA = Camera(241.42, 241.42, 160.0, 120.0)
HEADER = struct.Struct("<6i")
"""Before the depths of a file: width and height of the picture; left, top, right and bottom of the part stored."""
NUMBERS = 63
"""Numbers in a line of ``joint.txt``."""
ORDER = (0, 17, 18, 19, 20, *range(1, 17))
"""The place in the file of each of ``skeleton.JOINTS``; files have the thumb last."""
DEPTHS = re.compile(r"\d{6}_depth\.bin", re.ASCII)


class MSRA15(HandPictures):
    """Right hands of nine people (Sun et al., Cascaded Hand Pose Regression, CVPR 2015): ``pos``, ``joints`` (21, 3).

    Coordinates are metres in the camera's axes (x right, y down, z forward). The results of the benchmark are means
    over nine data sets, in each of which another person is for testing.

    Args:
        root: The folder with ``P0`` to ``P8``.
        split: "test" for the person ``subject``, "train" for all others.
        subject: The number of the person that training leaves out.
        cut: Half the side of the cube that is cut out, in metres.
        center: The middle of the cube. ``joints``: the mean of the true joints, as published results take it, which
            uses a part of the answer. ``points``: the mass of points nearest to the camera.

    Raises:
        CloudError: If the folder lacks files, or joints and depth files do not fit each other. A damaged depth file
            raises the error when it is read.
    """

    data, names, camera, options = "msra", JOINTS, CAMERA, ("split", "subject", "cut", "center")

    @checked
    def __init__(
        self,
        root: str,
        split: Split = "train",
        subject: Annotated[int, Range(0, 8)] = 0,
        cut: Cut = 0.125,
        center: Center = "joints",
    ) -> None:
        self.root, self.split, self.subject = existing_folder(root, TREE), split, subject
        self.cut, self.center = cut, center
        wanted = [f"P{number}" for number in range(SUBJECTS) if (number == subject) == (split == "test")]
        there = [name for name in wanted if (self.root / name).is_dir()]
        check_subjects(wanted, there, str(self.root))
        folders = [folder for name in there for folder in _folders(self.root / name)]
        gestures = [read_gesture(folder) for folder in folders]
        self.files = [file for files, _ in gestures for file in files]
        self.joints = torch.cat([joints for _, joints in gestures])
        self.lists = [folder / "joint.txt" for folder in folders]

    def depth(self, path: Path) -> Tensor:
        """(240, 320) float32 metres of one depth file."""
        return read_depth(path)


def read_gesture(folder: Path) -> tuple[list[Path], Tensor]:
    """The depth files of a gesture in order, and their joints (n, 21, 3) in metres, in the order of ``JOINTS``.

    Raises:
        CloudError: If ``joint.txt`` is missing or damaged, or does not have one line for each depth file.
    """
    path = folder / "joint.txt"
    content = plain(read_bytes(path), str(path))
    first, *lines = [line.split() for line in content.splitlines() if line.strip()] or [[]]
    declared = count(b" ".join(first).decode("ascii", "replace"), "frames", f"{path}, line 1")
    names = sorted(name for name in os.listdir(folder) if DEPTHS.fullmatch(name))
    if not declared == len(lines) == len(names):
        raise CloudError(
            f"{path}: expected as many lines and depth files as the first line says, {declared}; found {len(lines)} "
            f"lines and {len(names)} depth files; complete the folder"
        )
    if not names or int(names[-1][:6]) != len(names) - 1:
        last = names[-1] if names else "none"
        raise CloudError(
            f"{folder}: expected 000000_depth.bin, 000001_depth.bin, ... without a gap; the last is {last}"
        )
    for number, words in enumerate(lines):
        if len(words) != NUMBERS:
            raise CloudError(f"{path}: expected {NUMBERS} numbers for frame {number}, found {len(words)}; file is cut")
    values = numbers([word for words in lines for word in words], str(path)).reshape(-1, 21, 3)
    metres = values[:, ORDER] * [1, -1, -1] / MILLIMETRES  # the files' y is up, and their camera looks along -z
    return [folder / name for name in names], torch.from_numpy(metres.astype(np.float32))


def read_depth(path: Path) -> Tensor:
    """(240, 320) float32 metres; the file stores the part of the picture around the hand, the rest becomes 0.

    Raises:
        CloudError: If the file is missing, cut off, or its header makes no sense.
    """
    content = read_bytes(path)
    if len(content) < HEADER.size:
        raise CloudError(f"{path}: expected a header of {HEADER.size} bytes, found {len(content)}; the file is cut off")
    width, height, left, top, right, bottom = header = HEADER.unpack_from(content)
    if (width, height) != (WIDTH, HEIGHT) or not (0 <= left < right <= WIDTH and 0 <= top < bottom <= HEIGHT):
        raise CloudError(
            f"{path}: expected a part of a picture of {WIDTH}x{HEIGHT} pixels; the header has width, height, left, "
            f"top, right, bottom {header}"
        )
    size = HEADER.size + 4 * (right - left) * (bottom - top)
    if len(content) != size:
        raise CloudError(f"{path}: expected {size} bytes by its header, found {len(content)}; the file is damaged")
    depth = np.zeros((HEIGHT, WIDTH), np.float32)
    stored = np.frombuffer(content, "<f4", offset=HEADER.size)
    depth[top:bottom, left:right] = stored.reshape(bottom - top, right - left)
    return torch.from_numpy(depth) / MILLIMETRES


def _folders(subject: Path) -> list[Path]:
    """The folders of a person's gestures, by name."""
    folders = sorted(path for path in subject.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise CloudError(f"{subject}: expected a folder for each gesture, with joint.txt and depth files; found none")
    return folders
