"""The text archive of ShapeNetPart: one file for each object."""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch_geometric.data import Data

from geo3d.data.shapenetpart.parts import SYNSETS
from geo3d.errors import CloudError
from geo3d.io.files import read_json, read_lines
from geo3d.io.names import as_labels
from geo3d.io.precision import check_precision
from geo3d.io.table import read_rows

NAMES = "synsetoffset2category.txt"
LISTS = "train_test_split"
ENTRY = re.compile(r"shape_data/(\d{8})/([^/\s.][^/\s]*)")


class Archive:
    """The objects of some lists: files, labels, and reading of one file.

    Args:
        root: The folder of the archive.
        lists: Which of the lists ``train``, ``val`` and ``test`` to take, in this order.

    Raises:
        CloudError: If a list is damaged, an object is listed twice, or a file is missing.
    """

    def __init__(self, root: Path, lists: Sequence[str]) -> None:
        _check_names(root / NAMES)
        self.files: list[Path] = []
        for name in lists:
            self.files += _listed(root, root / LISTS / f"shuffled_{name}_file_list.json")
        if len(set(self.files)) < len(self.files):
            raise CloudError(f"{root / LISTS}: expected every object once in the lists {' and '.join(lists)}")
        order = list(SYNSETS)
        self.labels = torch.tensor([order.index(file.parent.name) for file in self.files])

    def __len__(self) -> int:
        return len(self.files)

    def source(self, index: int) -> str:
        """The file of an object."""
        return str(self.files[index])

    def read(self, index: int) -> Data:
        """``pos``, ``normal`` and ``point_y`` of one object, from the columns x y z nx ny nz part.

        Raises:
            CloudError: If the file has other columns.
        """
        source = self.source(index)
        rows = read_rows(self.files[index], 7)
        check_precision(rows[:, :3], source)
        pos, normal = (torch.from_numpy(rows[:, columns]).float() for columns in (slice(3), slice(3, 6)))
        return Data(pos=pos, normal=normal, point_y=torch.from_numpy(as_labels(rows[:, 6], f"{source}, column 7")))


def _check_names(path: Path) -> None:
    """Check that the file gives the 16 classes their synsets, in any order."""
    names = {words[-1]: words[0].lower() for words in map(str.split, read_lines(path))}
    if names != SYNSETS:
        other = next(iter(set(names.items()) ^ set(SYNSETS.items())))
        raise CloudError(f"{path}: expected the 16 classes of ShapeNetPart; {other[1]} {other[0]} is missing or added")


def _listed(root: Path, path: Path) -> list[Path]:
    """The files of one list."""
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise CloudError(f"{path}: expected a list of entries shape_data/SYNSET/NAME; found {str(entries)[:40]}")
    files = []
    for entry in entries:
        match = ENTRY.fullmatch(entry) if isinstance(entry, str) else None
        if match is None or match[1] not in SYNSETS:
            raise CloudError(f"{path}: expected shape_data/SYNSET/NAME, a synset of {NAMES}; found {str(entry)[:80]!r}")
        files.append(root / match[1] / f"{match[2]}.txt")
    if missing := [file for file in files if not file.is_file()]:
        raise CloudError(f"{missing[0]}: missing, as are {len(missing) - 1} other files of {path.name}")
    return files
