"""One's own clouds: whatever files lie in a folder."""

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import Like, Points, Split, Up, checked
from geo3d.errors import CloudError, SplitError
from geo3d.io.arrays import coordinates, open_hdf5, read_hdf5, read_hdf5_clouds
from geo3d.io.axes import to_z_up
from geo3d.io.files import existing_folder, listing
from geo3d.io.names import Arrays
from geo3d.io.read import READERS, as_data, read_arrays
from geo3d.seeds import generator

HDF5 = (".h5", ".hdf5")
Glob = Annotated[
    str, Like(r"(?!/|(.*/)?\.\.(/|$)|.*[^/]\*\*|.*\*\*[^/])(?=.*[^./]).{1,1000}", "a glob such as **/*.ply")
]


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

    @checked
    def __init__(
        self,
        root: str | Path,
        split: Split = "train",
        up: Up = "z",
        num_points: Points | None = None,
        pattern: Glob = "**/*",
    ) -> None:
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
            self.classes = self._classes()
            strange = sorted({parts[0] for parts in parents} - set(self.classes))
            if strange:
                raise CloudError(f"{self.base}: the classes {', '.join(strange)} have no folder in {self.root}/train")
            self.labels = torch.tensor([self.classes.index(file.parent.name) for file, _ in self._items])
        self._kept: OrderedDict[int, Data] = OrderedDict()
        self._broken: dict[int, str] = {}
        self._bytes = 0

    def _classes(self) -> list[str]:
        """The classes of the training split, which number those of the test split, too."""
        base = self.base if self.base == Path(self.root) else Path(self.root) / "train"
        files = [file for file in base.glob("*/*") if file.suffix.lower() in READERS and not file.name.startswith(".")]
        return sorted({file.parent.name for file in files if not file.parent.name.startswith(".")})

    def _base(self) -> Path:
        """The folder that holds the split."""
        root = existing_folder(self.root)
        if (root / "train").is_dir() and (root / "test").is_dir():
            return root / self.split
        if self.split == "test":
            raise SplitError(f"{root}: no split 'test'; put the files into subfolders train and test to have one")
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
        if index in self._broken:
            raise CloudError(self._broken[index])
        file, number = self._items[index]
        if number is None:
            return self._keep(index, read_arrays(file))
        if file.stat().st_size > self.memory:
            return self._keep(index, read_hdf5(file, number))
        # opening an HDF5 file for each cloud would take longer than reading all of it
        found = self._keep_all(file, index - number)
        if index not in found:
            raise CloudError(self._broken[index])
        return found[index]

    def source(self, index: int) -> str:
        """The file that cloud ``index`` comes from, and its number in there if it holds many."""
        file, number = self._items[index]
        return str(file) if number is None else f"{file}, cloud {number}"

    def _keep_all(self, file: Path, first: int) -> dict[int, Data]:
        """The sound clouds of an HDF5 file of many, by index; what is wrong with the others is kept, too."""
        found: dict[int, Data] = {}
        try:
            clouds = read_hdf5_clouds(file)
        except CloudError as error:  # nothing in the file can be used
            self._broken |= {i: str(error) for i, (other, _) in enumerate(self._items) if other == file}
            return found
        for i, arrays in enumerate(clouds, first):
            try:
                found[i] = self._keep(i, arrays)
            except CloudError as error:
                self._broken[i] = str(error)
        return found

    def _keep(self, index: int, arrays: Arrays) -> Data:
        """The cloud made of a reader's arrays; it stays in memory, and what was used least recently leaves it."""
        file, number = self._items[index]
        size = self.num_points
        if size is None and len(arrays.get("faces", ())):
            size = self.points_per_mesh
        draws = generator("folder", file.relative_to(self.base).as_posix(), number or 0)
        data = as_data(arrays, self.source(index), size, draws)
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
        return self.__dict__ | {"_kept": OrderedDict(), "_broken": {}, "_bytes": 0}

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
    """The numbers of the clouds in an HDF5 file of many; None for a file that is one cloud, or damaged."""
    if file.suffix.lower() not in HDF5:
        return [None]
    try:
        with open_hdf5(file) as stored:
            pos = coordinates(stored, str(file))
            return range(pos.shape[0]) if pos.ndim == 3 else [None]
    except CloudError:  # said again, with all other broken files, when it is read
        return [None]


def _bytes(data: Data) -> int:
    return sum(value.nbytes for value in data.to_dict().values() if isinstance(value, Tensor))
