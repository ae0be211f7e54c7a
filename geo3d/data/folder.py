"""Your own clouds: whatever files lie in a folder."""

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import Like, Points, Split, Up, checked
from geo3d.data.cache import LIMIT
from geo3d.data.targets import Classes, Target
from geo3d.data.tree import files_below, matches, split_folders
from geo3d.errors import CloudError, SplitError
from geo3d.io.arrays import coordinates
from geo3d.io.axes import z_up
from geo3d.io.files import existing_folder, listing
from geo3d.io.hdf5 import hdf5_bytes, open_hdf5, read_hdf5, read_hdf5_clouds
from geo3d.io.names import Arrays
from geo3d.io.read import READERS, as_data, read_arrays
from geo3d.seeds import generator

HDF5 = (".h5", ".hdf5")
Glob = Annotated[
    str, Like(r"(?!/|(.*/)?\.\.(/|$)|.*[^/]\*\*|.*\*\*[^/])(?=.*[^./]).{1,1000}", "a glob such as **/*.ply")
]


class Folder(Dataset):
    """Your own clouds: all point-cloud files in a folder, labelled by subfolder or not at all.

    A file is a cloud, and an HDF5 file with an array (n, P, 3) is n of them. The names of the folders one below are the
    classes, if at least two of them hold files and most files lie there; the others are left out with a warning that
    names them. Links to folders are folders. Meshes become points spread evenly over their faces.

    Args:
        root: The folder, or one with the subfolders ``train`` and ``test``; without ``test``, ``val`` is taken for it.
        split: Picks one of these subfolders; without them "train" is everything there is.
        up: The axis that points up in the files, "y" or "z". Clouds come out z-up.
        num_points: The most points of a cloud: larger ones are reduced to a random subset that depends on the file's
            name alone. Meshes get this many points, or 4096.
        pattern: Which files, as a glob below ``root``.

    Raises:
        CloudError: If there is no such folder, split or readable file; a broken file is named when it is read.
    """

    points_per_mesh = 4096
    memory = LIMIT

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
        self.unread: Counter[str] = Counter()
        """Files of this split that no reader takes, by suffix."""
        found = self._found()
        self.classes: list[str]
        """Names of the subfolders, if they are classes."""
        self.files: list[Path]
        """The files of this split, sorted by name."""
        self.classes, self.files, stray = labelled(found, self.base)
        if stray:
            warnings.warn(_note(stray, self.classes, self.base), stacklevel=2)
        self._items = [(file, i) for file in self.files for i in _numbers(file)]
        if not self._items:
            raise CloudError(f"{self.files[0]}: the file holds no clouds")
        self.labels: Tensor | None = None
        """(len,) int64, if the subfolders are classes."""
        if self.classes:
            here, self.classes = self.classes, self._classes()
            if strange := sorted(set(here) - set(self.classes)):
                raise CloudError(f"{self.base}: the classes {', '.join(strange)} have no folder in {self._train}")
            folders = [file.relative_to(self.base).parts[0] for file, _ in self._items]
            self.labels = torch.tensor([self.classes.index(folder) for folder in folders])
        self._broken: dict[int, str] = {}

    @property
    def targets(self) -> dict[str, Target]:
        """``y``, if the subfolders are classes."""
        return {} if self.labels is None else {"y": Classes(tuple(self.classes))}

    def _classes(self) -> list[str]:
        """The classes of the training split, which number those of the test split, too."""
        files = [file for file in files_below(self._train) if file.suffix.lower() in READERS]
        return labelled(files, self._train)[0]

    def _base(self) -> Path:
        """The folder that holds the split."""
        root = existing_folder(self.root)
        splits = split_folders(root)
        self._train = splits.get("train", root)
        """The folder that holds the training split."""
        if "train" in splits and "test" in splits:
            return splits[self.split]
        if "train" in splits and "val" in splits:
            note = f"{root}: no folder test beside train; {splits['val'].name} is taken for the test split"
            warnings.warn(note, stacklevel=3)
            return splits["val"] if self.split == "test" else splits["train"]
        if "test" in splits and "val" in splits:
            raise CloudError(f"{root}: expected a folder train beside test and {splits['val'].name}, found none")
        self._train = root
        if self.split == "test":
            raise SplitError(f"{root}: no split 'test'; put the files into subfolders train and test to have one")
        return root

    def _found(self) -> list[Path]:
        everything = [file for file in files_below(self.base) if matches(file.relative_to(self.base), self.pattern)]
        files = [file for file in everything if file.suffix.lower() in READERS]
        self.unread.update(file.suffix for file in everything if file.suffix.lower() not in READERS)
        if not files:
            raise CloudError(
                f"{self.base}: no file to read among {self.pattern!r}; looked for {' '.join(READERS)}; "
                f"found {len(everything)} files {' '.join(sorted(self.unread))}".rstrip()
            )
        return files

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Data:
        if not -len(self) <= index < len(self):
            raise IndexError(f"cloud {index} of {len(self)}")
        index %= len(self)
        return self.read(index)[index]

    def read(self, index: int) -> dict[int, Data]:
        """The clouds that come with cloud ``index``, by index: all sound ones of an HDF5 file of many.

        Opening such a file for each cloud would take longer than reading all of it.
        """
        if index in self._broken:
            raise CloudError(self._broken[index])
        file, number = self._items[index]
        if number is None or hdf5_bytes(file) > self.memory:
            arrays = read_arrays(file) if number is None else read_hdf5(file, number)
            return {index: self._made(index, arrays)}
        found = self._all_of(file, index - number)
        if index not in found:
            raise CloudError(self._broken[index])
        return found

    def source(self, index: int) -> str:
        """The file that cloud ``index`` comes from, and its number in there if it holds many."""
        file, number = self._items[index]
        return str(file) if number is None else f"{file}, cloud {number}"

    def _all_of(self, file: Path, first: int) -> dict[int, Data]:
        """The sound clouds of an HDF5 file of many, by index; what is wrong with the others is noted."""
        found: dict[int, Data] = {}
        try:
            clouds = read_hdf5_clouds(file)
        except CloudError as error:  # nothing in the file can be used
            self._broken |= {i: str(error) for i, (other, _) in enumerate(self._items) if other == file}
            return found
        for i, arrays in enumerate(clouds, first):
            try:
                found[i] = self._made(i, arrays)
            except CloudError as error:
                self._broken[i] = str(error)
        return found

    def _made(self, index: int, arrays: Arrays) -> Data:
        """The cloud made of a reader's arrays."""
        file, number = self._items[index]
        size = self.num_points
        if size is None and len(arrays.get("faces", ())):
            size = self.points_per_mesh
        draws = generator("folder", file.relative_to(self.base).as_posix(), number or 0)
        data = as_data(arrays, self.source(index), size, draws)
        data = z_up(data, self.up)
        data.y = None if self.labels is None else self.labels[index].reshape(1)
        return data

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


def labelled(files: Sequence[Path], base: Path) -> tuple[list[str], list[Path], list[Path]]:
    """Classes, the files of these, and the files that lie elsewhere; without classes all files.

    The folders right below ``base`` are classes if at least two hold files, and more files lie there than elsewhere.
    """
    depths = [len(file.relative_to(base).parts) for file in files]
    inside = [file for file, depth in zip(files, depths, strict=True) if depth == 2]
    stray = [file for file, depth in zip(files, depths, strict=True) if depth != 2]
    classes = sorted({file.relative_to(base).parts[0] for file in inside})
    if len(classes) < 2:
        return [], list(files), []
    return (classes, inside, stray) if len(inside) > len(stray) else ([], list(files), stray)


def _note(stray: Sequence[Path], classes: Sequence[str], base: Path) -> str:
    """What becomes of files that do not lie one folder below."""
    names = ", ".join(file.relative_to(base).as_posix() for file in stray[:3]) + (", ..." if len(stray) > 3 else "")
    if classes:
        return f"{base}: {names} ({len(stray)} in all) left out, as they lie in none of the class folders"
    return f"{base}: read without labels, as {names} ({len(stray)} in all) do not lie one folder below"


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
