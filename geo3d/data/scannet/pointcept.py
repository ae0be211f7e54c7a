"""ScanNet as Pointcept stores it: a folder of NumPy arrays for each scene."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geo3d.cloud import check_cloud
from geo3d.data.scannet.labels import LABEL_SETS
from geo3d.errors import CloudError
from geo3d.io.arrays import read_array
from geo3d.io.files import existing_folder

FOLDERS = {"train": "train", "test": "val"}
"""The folder of each split. The files of Pointcept's own folder ``test`` hold no labels."""
SEGMENTS = {"scannet20": "segment20", "scannet200": "segment200"}
TREE = "train/SCENE and val/SCENE with coord.npy, color.npy, segment20.npy, ..."


def recognised(root: Path) -> bool:
    """Whether the scenes in a folder are in Pointcept's layout."""
    return any(any((root / split).glob("*/coord.npy")) for split in (*FOLDERS.values(), "test"))


def scene_folders(root: Path, split: str) -> list[Path]:
    """The folders of the scenes of a split, sorted by name.

    Raises:
        CloudError: If there are none, or a folder of the split has no ``coord.npy``.
    """
    base = existing_folder(root / FOLDERS[split], TREE)
    folders = sorted(entry for entry in base.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    empty = [folder for folder in folders if not (folder / "coord.npy").is_file()]
    if empty or not folders:
        what = f"{empty[0].name} has none" if empty else "found no folder"
        raise CloudError(f"{base}: expected a folder with coord.npy for each scene; {what}")
    return folders


def arrays_of(folder: Path) -> list[Path]:
    """The files of a scene, sorted by name."""
    return sorted(folder.glob("*.npy"))


def read_scene(folder: Path, label_set: str) -> Data:
    """``pos``, ``rgb`` from 0 to 1, ``point_y``, and ``normal`` and ``instance`` of a scene that has them.

    Args:
        folder: The scene's folder.
        label_set: A name of ``LABEL_SETS``.

    Raises:
        CloudError: If an array is missing, damaged, of another dtype or length, or holds what it must not.
    """
    coordinates = _rows(folder / "coord.npy", "f", None)
    pos = torch.from_numpy(coordinates.astype(np.float32))
    check_cloud(pos, str(folder / "coord.npy"))
    rgb = torch.from_numpy(_rows(folder / "color.npy", "u1", len(pos)).astype(np.float32) / 255)
    cloud = Data(pos=pos, rgb=rgb)
    if (folder / "normal.npy").exists():
        cloud.normal = torch.from_numpy(_rows(folder / "normal.npy", "f", len(pos)).astype(np.float32))
        if not bool(cloud.normal.isfinite().all()):
            raise CloudError(f"{folder / 'normal.npy'}: some normals are NaN or infinite; compute them again")
    path = folder / f"{SEGMENTS[label_set]}.npy"
    most = len(LABEL_SETS[label_set].classes) - 1
    cloud.point_y = _numbers(path, len(pos), most)
    if (folder / "instance.npy").exists():  # counts from 0, with -1 for none
        cloud.instance = _numbers(folder / "instance.npy", len(pos), None) + 1
    return cloud


def _rows(path: Path, kind: str, count: int | None) -> np.ndarray:
    """(N, 3) an array of a kind of number such as "f" or "u1", with ``count`` rows."""
    array = read_array(path)
    fits = array.dtype.str.lstrip("<>=|").startswith(kind) and array.ndim == 2 and array.shape[1] == 3
    if not fits or count not in (None, len(array)):
        kinds = {"f": "floats", "u1": "uint8"}
        size = "N" if count is None else count
        raise CloudError(f"{path}: expected {kinds[kind]} of shape ({size}, 3), found {array.dtype} {array.shape}")
    return array


def _numbers(path: Path, count: int, most: int | None) -> Tensor:
    """(N,) int64 numbers from -1 on, up to ``most``."""
    array = read_array(path)
    if array.dtype.kind != "i" or array.shape != (count,) or not count:
        raise CloudError(f"{path}: expected integers of shape ({count},), found {array.dtype} {array.shape}")
    low, high = int(array.min()), int(array.max())
    if low < -1 or (most is not None and high > most):
        upper = "on" if most is None else f"to {most}"
        raise CloudError(f"{path}: expected numbers from -1 {upper}, found {low} to {high}")
    return torch.from_numpy(array.astype(np.int64))
