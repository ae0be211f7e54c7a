"""S3DIS as Pointcept prepares it: a folder of NumPy files for each room."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geo3d.cloud import check_cloud
from geo3d.data.s3dis.classes import AREAS, CLASSES, check_areas
from geo3d.data.targets import check_labels
from geo3d.errors import CloudError
from geo3d.io.arrays import read_array
from geo3d.io.precision import check_precision

NEEDED = ("coord", "color", "segment")
KINDS = {"coord": "f", "color": "u", "normal": "f", "segment": "iu", "instance": "iu"}
"""The kinds of dtype of each array."""


class Rooms:
    """The rooms of some areas. A room is read when it is asked for.

    Args:
        root: The folder that holds ``Area_1`` to ``Area_6``.
        areas: The areas to take.

    Raises:
        CloudError: If an area or a file that every room needs is missing.
    """

    def __init__(self, root: Path, areas: frozenset[int]) -> None:
        inside = {number: _folders(root / f"Area_{number}") for number in AREAS}
        check_areas({number for number, folders in inside.items() if folders}, areas, str(root))
        self.folders = [folder for number in sorted(areas) for folder in inside[number]]
        self.files = [folder / f"{name}.npy" for folder in self.folders for name in NEEDED]
        """Coordinates, colours and classes of all rooms."""
        if missing := [file for file in self.files if not file.is_file()]:
            raise CloudError(f"{missing[0]}: missing, as are {len(missing) - 1} other files; complete the folder")

    def __len__(self) -> int:
        return len(self.folders)

    def source(self, index: int) -> str:
        """The folder of a room."""
        return str(self.folders[index])

    def read(self, index: int) -> Data:
        """``pos``, ``rgb``, ``point_y``, and ``normal`` and ``instance`` where there are such files."""
        folder = self.folders[index]
        coord = _array(folder, "coord", (-1, 3))
        if coord.dtype.itemsize > 4:
            check_precision(coord, str(folder / "coord.npy"))
        pos = torch.from_numpy(coord.astype(np.float32))
        check_cloud(pos, str(folder / "coord.npy"))
        color = _array(folder, "color", (len(pos), 3))
        cloud = Data(pos=pos, rgb=torch.from_numpy(color.astype(np.float32) / 255))
        if (folder / "normal.npy").exists():
            cloud.normal = torch.from_numpy(_array(folder, "normal", (len(pos), 3)).astype(np.float32))
        cloud.point_y = _numbers(folder, "segment", len(pos))
        check_labels(cloud.point_y, len(CLASSES), str(folder / "segment.npy"), ignore=-1)
        if (folder / "instance.npy").exists():  # counts from 0, with -1 for none
            cloud.instance = _numbers(folder, "instance", len(pos)) + 1
        return cloud


def _folders(area: Path) -> list[Path]:
    """The folders of an area's rooms, by name."""
    return sorted(p for p in area.iterdir() if p.is_dir() and not p.name.startswith(".")) if area.is_dir() else []


def _array(folder: Path, name: str, shape: tuple[int, int]) -> np.ndarray:
    """One array of a room; -1 in the shape stands for any number of points."""
    path = folder / f"{name}.npy"
    array = read_array(path)
    fits = array.ndim == 2 and array.shape[1] == shape[1] and shape[0] in (-1, len(array))
    if not fits or array.dtype.kind not in KINDS[name] or (name == "color" and array.dtype != np.uint8):
        wanted = {"color": "uint8", "segment": "integers", "instance": "integers"}.get(name, "float32")
        count = "N" if shape[0] < 0 else shape[0]
        form = f"{array.shape} of {array.dtype}"
        raise CloudError(f"{path}: expected an array ({count}, {shape[1]}) of {wanted}; found {form}")
    return array


def _numbers(folder: Path, name: str, count: int) -> Tensor:
    """(N,) int64 labels or instances, which are stored as (N, 1)."""
    path = folder / f"{name}.npy"
    array = read_array(path)
    if array.shape not in ((count, 1), (count,)) or array.dtype.kind not in KINDS[name]:
        raise CloudError(f"{path}: expected an array ({count}, 1) of integers; found {array.shape} of {array.dtype}")
    return torch.from_numpy(array.reshape(-1).astype(np.int64))
