"""One's own clouds: whatever files lie in a folder."""

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.errors import CloudError, ConfigError
from geo3d.io.arrays import coordinates, open_hdf5, read_hdf5, read_hdf5_clouds
from geo3d.io.axes import check_up, to_z_up
from geo3d.io.files import listing
from geo3d.io.names import Arrays
from geo3d.io.read import READERS, as_data, read_arrays
from geo3d.seeds import generator

HDF5 = (".h5", ".hdf5")


class Folder(Dataset):
    """One's own clouds: all point-cloud files in a folder, labelled by subfolder or not at all.

    A file is a cloud, and an HDF5 file with an array (n, P, 3) is n of them. If every file lies exactly one folder
    below, in one of at least two, the folders' names are the classes. Meshes become points spread evenly over their
    faces. What was read stays in memory, up to about 1 GiB.

    Args:
        root: The folder, or one with the subfolders ``train`` and ``test``.
        split: Picks one of these subfolders; without them "train" is everything there is.
        up: The axis that points up in the files, "y" or "z". Clouds come out z-up.
        num_points: The most points of a cloud: larger ones are reduced to a random subset that depends on the file's
            name alone. Meshes get this many points, or 4096.
        pattern: Which files, as a glob below ``root``.

    Raises:
        CloudError: If there is no such folder, split or readable file; a broken file is named when it is read.
    """

    points_per_mesh = 4096
    memory = 2**30

    def __init__(
        self,
        root: str,
        split: str = "train",
        up: str = "z",
        num_points: int | None = None,
        pattern: str = "**/*",
    ) -> None:
        check_up(up)
        if split not in ("train", "test"):
            raise ConfigError(f"split: expected 'train' or 'test', found {split!r}")
        if num_points is not None and num_points < 1:
            raise ConfigError(f"num_points: expected at least 1, found {num_points}")
        self.root, self.split, self.up, self.num_points, self.pattern = root, split, up, num_points, pattern
        self.base = self._base()
        self.files = self._found()
        """The files of this split, sorted by name."""
        self._items = [(file, i) for file in self.files for i in _numbers(file)]
        if not self._items:
            raise CloudError(f"{self.files[0]}: the file holds no clouds")
        self.classes: list[str] = []
        """Names of the subfolders, if they are classes."""
        self.labels: Tensor | None = None
        """(len,) int64, if the subfolders are classes."""
        parents = [file.relative_to(self.base).parts[:-1] for file in self.files]
        if all(len(parts) == 1 for parts in parents) and len(set(parents)) > 1:
            self.classes = sorted({parts[0] for parts in parents})
            self.labels = torch.tensor([self.classes.index(file.parent.name) for file, _ in self._items])
        self._kept: OrderedDict[int, Data] = OrderedDict()
        self._bytes = 0

    def _base(self) -> Path:
        """The folder that holds the split."""
        root = Path(self.root)
        if not root.is_dir():
            raise CloudError(f"{root}: no such folder")
        if (root / "train").is_dir() and (root / "test").is_dir():
            return root / self.split
        if self.split == "test":
            raise CloudError(f"{root}: no split 'test'; put the files into subfolders train and test to have one")
        return root

    def _found(self) -> list[Path]:
        everything = [
            file
            for file in sorted(self.base.glob(self.pattern))
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(self.base).parts)
        ]
        files = [file for file in everything if file.suffix.lower() in READERS]
        if not files:
            suffixes = sorted({file.suffix for file in everything})
            raise CloudError(
                f"{self.base}: no file to read among {self.pattern!r}; looked for {' '.join(READERS)}; "
                f"found {len(everything)} files {' '.join(suffixes)}".rstrip()
            )
        return files

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Data:
        if not -len(self) <= index < len(self):
            raise IndexError(f"cloud {index} of {len(self)}")
        index %= len(self)
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        file, number = self._items[index]
        if number is None:
            return self._keep(index, read_arrays(file))
        if file.stat().st_size > self.memory:
            return self._keep(index, read_hdf5(file, number))
        # opening an HDF5 file for each cloud would take longer than reading all of it
        clouds = [self._keep(i, arrays) for i, arrays in enumerate(read_hdf5_clouds(file), index - number)]
        return clouds[number]

    def _keep(self, index: int, arrays: Arrays) -> Data:
        """The cloud made of a reader's arrays; it stays in memory, and what was used least recently leaves it."""
        file, number = self._items[index]
        source = str(file) if number is None else f"{file}, cloud {number}"
        size = self.num_points
        if size is None and len(arrays.get("faces", ())):
            size = self.points_per_mesh
        draws = generator("folder", file.relative_to(self.base).as_posix(), number or 0)
        data = as_data(arrays, source, size, draws)
        for key in ("pos", "normal"):
            if key in data:
                data[key] = to_z_up(data[key], self.up)
        data.y = None if self.labels is None else self.labels[index].reshape(1)
        if index in self._kept:
            self._bytes -= _bytes(self._kept.pop(index))
        self._kept[index] = data
        self._bytes += _bytes(data)
        while self._bytes > self.memory and len(self._kept) > 1:
            self._bytes -= _bytes(self._kept.popitem(last=False)[1])
        return data

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the clouds in memory: loader workers read their own."""
        return self.__dict__ | {"_kept": OrderedDict(), "_bytes": 0}

    def manifest(self) -> dict[str, Any]:
        """What is read, in JSON's types: split, up, numbers, classes, files with a hash of their names and sizes."""
        labels = [] if self.labels is None else torch.bincount(self.labels, minlength=len(self.classes)).tolist()
        return {
            "name": "Folder",
            "folder": Path(self.root).resolve().name,
            "split": self.split,
            "up": self.up,
            "pattern": self.pattern,
            "num_clouds": len(self),
            "num_points": self.num_points,
            "classes": dict(zip(self.classes, labels, strict=True)),
            **listing(self.files, self.base),
        }


def _numbers(file: Path) -> Iterable[int | None]:
    """The numbers of the clouds in an HDF5 file of many; None for a file that is one cloud."""
    if file.suffix.lower() not in HDF5:
        return [None]
    with open_hdf5(file) as stored:
        pos = coordinates(stored, str(file))
        return range(pos.shape[0]) if pos.ndim == 3 else [None]


def _bytes(data: Data) -> int:
    return sum(value.nbytes for value in data.to_dict().values() if isinstance(value, Tensor))
