"""Real table-top scans: one view of a Kinect each, with an instance label for every point."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import Split, checked
from geo3d.cloud import check_cloud
from geo3d.data.targets import Classes, Target
from geo3d.errors import CloudError
from geo3d.io.arrays import read_archive
from geo3d.io.files import existing_folder, listing

CLASSES = ("table", "object")
TEST = 10 / 45
"""Fraction of the scenes that are for testing: the last 10 of 45."""


class MOSD(Dataset):
    """Scans of the Object Segmentation Database: ``pos`` in metres, ``rgb``, and for each point table or object.

    The points of the table have ``instance`` 1 in the files, those of the objects 2 and more, all others 0. A scan
    shows a table from one side, with real noise, holes and occlusion. Clouds stay in the camera's axes (x right, y
    down, z forward), because nothing says how the camera was tilted.

    Args:
        root: The folder with ``scene_0.npz``, ``scene_1.npz``, ...
        split: "train", the first 35 of 45 scenes by number, or "test", the last 10; other numbers are divided alike.

    Raises:
        CloudError: If the folder has fewer than two such files, or a file is damaged.
    """

    classes: tuple[str, ...] = ()
    labels = None

    @checked
    def __init__(self, root: str, split: Split = "train") -> None:
        self.root, self.split = existing_folder(root, "scene_0.npz, scene_1.npz, ..."), split
        numbered = {int(match[1]): path for path in self.root.iterdir() if (match := _numbered(path))}
        scenes = [numbered[number] for number in sorted(numbered)]
        if len(scenes) < 2:
            raise CloudError(f"{self.root}: expected scene_0.npz, scene_1.npz, ...; found {len(scenes)} such files")
        first = len(scenes) - max(1, round(TEST * len(scenes)))
        self.files = scenes[:first] if split == "train" else scenes[first:]

    @property
    def targets(self) -> dict[str, Target]:
        """``point_y``: table or object."""
        return {"point_y": Classes(CLASSES, ignore=-1)}

    def __len__(self) -> int:
        return len(self.files)

    def source(self, index: int) -> str:
        """The file of a scan."""
        return str(self.files[index])

    def __getitem__(self, index: int) -> Data:
        """One scan: ``pos`` (N, 3), ``rgb`` (N, 3) from 0 to 1, ``point_y`` (N,) and ``instance`` (N,).

        Instances count the objects from 1 on; the table and the rest are 0.
        """
        path = self.files[index]
        arrays = read_archive(path)
        for name, kind, shape in (("xyz", "f", (3,)), ("rgb", "u", (3,)), ("instance", "i", ())):
            array = arrays.get(name)
            if array is None or array.dtype.kind != kind or array.shape[1:] != shape:
                there = sorted(arrays) if array is None else f"{array.dtype} {array.shape}"
                raise CloudError(f"{path}: expected xyz (N, 3), rgb (N, 3) and instance (N,); found {name}: {there}")
        xyz, rgb, instance = (arrays[name] for name in ("xyz", "rgb", "instance"))
        if not len(xyz) == len(rgb) == len(instance):
            raise CloudError(f"{path}: expected one row per point; found {len(xyz)}, {len(rgb)} and {len(instance)}")
        pos = torch.from_numpy(xyz.astype(np.float32))
        check_cloud(pos, str(path))
        labels = torch.from_numpy(instance.astype(np.int64))
        point_y = torch.where(labels > 1, 1, torch.where(labels == 1, 0, -1))
        color = torch.from_numpy(rgb.astype(np.float32) / 255)
        return Data(pos=pos, rgb=color, point_y=point_y, instance=(labels - 1).clamp(min=0))

    def manifest(self) -> dict[str, Any]:
        """Which files are read, with a hash of their names and sizes."""
        return {"data": "mosd", "split": self.split, **listing(self.files, self.root)}


def _numbered(path: Path) -> re.Match[str] | None:
    return re.fullmatch(r"scene_(\d{1,6})\.npz", path.name, re.ASCII)
