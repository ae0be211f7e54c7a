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

from geo3d.checks import Length, Like, Points, Split, Up, checked
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

    Each file is one cloud; an HDF5 file with an array (n, P, 3) is n clouds. The subfolders are the classes if at least
    two of them hold files, and more files lie directly in subfolders than elsewhere. The files elsewhere are then left
    out, with a warning that names the first of them. Links to folders count as folders. Meshes become points spread
    evenly over their faces.

    Args:
        root: The folder. It may hold the splits as subfolders ``train`` and ``test``; if there is no ``test``, ``val``
            is used for it.
        split: Which of these subfolders to read. In a folder without them "train" is all files.
        up: The axis that points up in the files, "y" or "z". Clouds come out z-up.
        num_points: The largest number of points of a cloud. A larger cloud is reduced to a random subset, which
            depends only on the name of its file and its number in there. A mesh gets this many points, or 4096.
        pattern: Which files to read: a glob on their paths below ``root``, or below the folder of the split.
        point_classes: Names of the labels that the files hold for each point, from label 0 on; -1 stands for none.

    Raises:
        CloudError: If there is no such folder or split, no file to read, or a test class without a training folder. A
            broken file raises the error when it is read.
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
        point_classes: Annotated[Sequence[str], Length(1, 10_000)] | None = None,
    ) -> None:
        self.root, self.split, self.up, self.num_points, self.pattern = root, split, up, num_points, pattern
        self.point_classes = None if point_classes is None else tuple(point_classes)
        self.base = self._base()
        self.unread: Counter[str] = Counter()
        """How many files of this split no reader can read, by suffix."""
        readable = self._found()
        self.classes: list[str]
        """Names of the subfolders, if they are classes."""
        self.files: list[Path]
        """The files of this split, sorted by name."""
        self.classes, self.files, stray = labelled(readable, self.base)
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
        """``y``, if the subfolders are classes, and ``point_y``, if ``point_classes`` names them."""
        of_clouds: dict[str, Target] = {} if self.labels is None else {"y": Classes(tuple(self.classes))}
        of_points = {} if self.point_classes is None else {"point_y": Classes(self.point_classes, ignore=-1)}
        return of_clouds | of_points

    def _classes(self) -> list[str]:
        """The classes of the training split; the test split uses the same numbers."""
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
        return self.read_with(index)[index]

    def read_with(self, index: int) -> dict[int, Data]:
        """Cloud ``index`` and the clouds read with it, by index: all sound clouds of an HDF5 file of many.

        Reading all of such a file is faster than opening it for each cloud. Of a file that is larger than ``memory``
        only the one cloud is read.
        """
        if index in self._broken:
            raise CloudError(self._broken[index])
        file, number = self._items[index]
        if number is None or hdf5_bytes(file) > self.memory:
            arrays = read_arrays(file) if number is None else read_hdf5(file, number)
            return {index: self._made(index, arrays)}
        clouds = self._all_of(file, index - number)
        if index not in clouds:
            raise CloudError(self._broken[index])
        return clouds

    def source(self, index: int) -> str:
        """The file of cloud ``index``, with the number of the cloud if the file holds many."""
        file, number = self._items[index]
        return str(file) if number is None else f"{file}, cloud {number}"

    def _all_of(self, file: Path, first: int) -> dict[int, Data]:
        """The sound clouds of an HDF5 file of many, by index; the errors of the others go to ``_broken``."""
        sound: dict[int, Data] = {}
        try:
            clouds = read_hdf5_clouds(file)
        except CloudError as error:  # nothing in the file can be used
            self._broken |= {i: str(error) for i, (other, _) in enumerate(self._items) if other == file}
            return sound
        for i, arrays in enumerate(clouds, first):
            try:
                sound[i] = self._made(i, arrays)
            except CloudError as error:
                self._broken[i] = str(error)
        return sound

    def _made(self, index: int, arrays: Arrays) -> Data:
        """Cloud ``index`` from the arrays of its reader."""
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
        """What is read, as JSON types: split, up, counts, classes, and files with a hash of their names and sizes."""
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
            **({} if self.point_classes is None else {"point_classes": list(self.point_classes)}),
            **listing(self.files, self.base),
        }


def labelled(files: Sequence[Path], base: Path) -> tuple[list[str], list[Path], list[Path]]:
    """Classes, the files to read, and the stray files, which lie elsewhere; without classes all files are read.

    The folders right below ``base`` are classes if at least two hold files, and more files lie there than elsewhere.
    Stray files are listed only if at least two such folders hold files.
    """
    depths = [len(file.relative_to(base).parts) for file in files]
    inside = [file for file, depth in zip(files, depths, strict=True) if depth == 2]
    stray = [file for file, depth in zip(files, depths, strict=True) if depth != 2]
    classes = sorted({file.relative_to(base).parts[0] for file in inside})
    if len(classes) < 2:
        return [], list(files), []
    return (classes, inside, stray) if len(inside) > len(stray) else ([], list(files), stray)


def _note(stray: Sequence[Path], classes: Sequence[str], base: Path) -> str:
    """The warning about files that do not lie exactly one folder below ``base``."""
    names = ", ".join(file.relative_to(base).as_posix() for file in stray[:3]) + (", ..." if len(stray) > 3 else "")
    if classes:
        return f"{base}: {names} ({len(stray)} in all) left out, as they lie in none of the class folders"
    return f"{base}: read without labels, as {names} ({len(stray)} in all) do not lie one folder below"


def _numbers(file: Path) -> Iterable[int | None]:
    """The numbers of the clouds in an HDF5 file of many; ``[None]`` for a file that is one cloud, or damaged."""
    if file.suffix.lower() not in HDF5:
        return [None]
    try:
        with open_hdf5(file) as stored:
            pos = coordinates(stored, str(file))
            return range(pos.shape[0]) if pos.ndim == 3 else [None]
    except CloudError:  # raised again when the cloud is read, so that a check can list all broken files
        return [None]
