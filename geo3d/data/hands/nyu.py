"""The hands of New York University: one person for training, two for testing, seen by a Kinect."""

import os
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geo3d.checks import Split, checked
from geo3d.data.hands.from_depth import Camera, Center, Cut, check_size
from geo3d.data.hands.pictures import HandPictures
from geo3d.errors import CloudError
from geo3d.io.files import existing_folder
from geo3d.io.image import read_colors
from geo3d.io.matlab import read_matlab
from geo3d.pose_metrics import MILLIMETRES

TREE = "train/ and test/, with joint_data.mat and depth_1_0000001.png, ... in each"
WIDTH, HEIGHT = 640, 480
CAMERA = Camera(588.036865, 587.075073, 320.0, 240.0)
JOINTS = (
    "little_tip", "little_mid", "ring_tip", "ring_mid", "middle_tip", "middle_mid", "index_tip", "index_mid",
    "thumb_tip", "thumb_mid", "thumb_root", "wrist_1", "wrist_2", "palm",
)  # fmt: skip
"""The 14 joints of the benchmark, in its order."""
PLACES = (0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32)
"""Their places among the ``STORED`` joints of the file."""
STORED = 36
CAMERAS = 3
"""The file has the joints as each of three cameras sees them; the benchmark uses the first."""
DEPTHS = re.compile(r"depth_1_(\d{7})\.png", re.ASCII)


class NYU(HandPictures):
    """Right hands before a Kinect (Tompson et al., ACM ToG 33, 2014): ``pos`` and the benchmark's 14 ``joints``.

    Coordinates are metres in the axes of the first camera (x right, y down, z forward). The pictures show the whole
    person; the hand is cut out.

    Args:
        root: The folder with ``train`` and ``test``.
        split: "train" or "test".
        cut: Half the side of the cube that is cut out, in metres.
        center: The middle of the cube. ``joints``: the mean of the true joints, as published results take it, which
            uses a part of the answer. ``points``: the mass of points nearest to the camera.

    Raises:
        CloudError: If the folder lacks files, or joints and pictures do not fit each other. A damaged picture raises
            the error when it is read.
    """

    data, names, camera = "nyu", JOINTS, CAMERA

    @checked
    def __init__(self, root: str, split: Split = "train", cut: Cut = 0.15, center: Center = "joints") -> None:
        self.root, self.split, self.cut, self.center = existing_folder(root, TREE), split, cut, center
        folder = existing_folder(self.root / split, TREE)
        self.lists = [folder / "joint_data.mat"]
        self.joints = read_joints(self.lists[0])
        names = sorted(name for name in os.listdir(folder) if DEPTHS.fullmatch(name))
        if len(names) != len(self.joints):
            raise CloudError(
                f"{folder}: expected a picture depth_1_NNNNNNN.png for each of the {len(self.joints)} frames of "
                f"joint_data.mat; found {len(names)}; complete the folder"
            )
        last = f"depth_1_{len(names):07d}.png"
        if names[0] != "depth_1_0000001.png" or names[-1] != last:
            raise CloudError(f"{folder}: expected depth_1_0000001.png to {last}; found {names[0]} to {names[-1]}")
        self.files = [folder / name for name in names]

    def depth(self, path: Path) -> Tensor:
        """(480, 640) float32 metres of one depth picture."""
        return read_depth(path)


def read_joints(path: Path) -> Tensor:
    """(n, 14, 3) float32 the joints of the benchmark in metres, in the axes of the first camera, y down.

    Raises:
        CloudError: If the file is missing or damaged, or does not have 36 joints for each of three cameras.
    """
    xyz = read_matlab(path, ("joint_xyz",))["joint_xyz"]
    form = (CAMERAS, xyz.shape[1] if xyz.ndim > 1 else 0, STORED, 3)
    if xyz.shape != form or xyz.dtype.kind != "f" or not xyz.shape[1]:
        raise CloudError(
            f"{path}: expected joint_xyz of shape ({CAMERAS}, frames, {STORED}, 3) and floats; found {xyz.shape} of "
            f"{xyz.dtype}"
        )
    metres = xyz[0][:, PLACES] * [1, -1, 1] / MILLIMETRES  # the file's y is up
    return torch.from_numpy(metres.astype(np.float32))


def read_depth(path: Path) -> Tensor:
    """(480, 640) float32 metres; green holds the upper 8 bits of a depth in millimetres, blue the lower 8.

    Raises:
        CloudError: If the file is missing, damaged, or not a picture of this kind and size.
    """
    channels = read_colors(path)
    check_size(channels.shape, WIDTH, HEIGHT, path)
    return torch.from_numpy(channels[..., 1].astype(np.float32) * 256 + channels[..., 2]) / MILLIMETRES
