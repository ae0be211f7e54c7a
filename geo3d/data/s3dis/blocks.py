"""The HDF5 release of S3DIS: rooms cut into blocks of 1 m x 1 m, 4096 points each."""

import re
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data

from geo3d.cloud import check_cloud
from geo3d.data.s3dis.classes import CLASSES, check_areas
from geo3d.data.stacked import Stacked
from geo3d.data.targets import check_labels
from geo3d.errors import CloudError
from geo3d.io.files import read_lines
from geo3d.io.names import as_labels

FILES, ROOMS = "all_files.txt", "room_filelist.txt"


class Blocks:
    """The blocks of some areas. They are read from the files again each time, as all of them take 3.5 GB.

    Args:
        root: The folder.
        areas: The areas to take.

    Raises:
        CloudError: If a file is missing or damaged, or the number of rooms listed is not that of the blocks.
    """

    def __init__(self, root: Path, areas: frozenset[int]) -> None:
        # the entries may name the folder in which the list was made
        self.files = [root / Path(line).name for line in read_lines(root / FILES)]
        if len(set(self.files)) < len(self.files):
            raise CloudError(f"{root / FILES}: expected every file once")
        self._stored = Stacked(self.files, {"data": (-1, 9), "label": (-1,)})
        rooms = read_lines(root / ROOMS)
        if len(rooms) != len(self._stored):
            raise CloudError(
                f"{root / ROOMS}: expected a room for each of {len(self._stored)} blocks; found {len(rooms)} lines"
            )
        numbers = [_area(room, root / ROOMS) for room in rooms]
        check_areas(set(numbers), areas, str(root / ROOMS))
        self.indices = [i for i, number in enumerate(numbers) if number in areas]
        """The blocks of these areas, among all."""
        self._rooms = rooms

    def __len__(self) -> int:
        return len(self.indices)

    def source(self, index: int) -> str:
        """The file of a block, its number in there, and its room."""
        return f"{self._stored.source(self.indices[index])} of {self._rooms[self.indices[index]]}"

    def read(self, index: int) -> Data:
        """One block."""
        number, row = self._stored.place(self.indices[index])
        arrays = self._stored.read(number, slice(row, row + 1))
        return _block(arrays["data"][0], arrays["label"][0], self.source(index))

    def read_with(self, index: int) -> dict[int, Data]:
        """One block and the sound blocks of these areas that are stored, and thus unpacked, together with it.

        Raises:
            CloudError: If the block itself is damaged.
        """
        number, row = self._stored.place(self.indices[index])
        together, start = self._stored.together[number], self._stored.starts[number]
        first = row - row % together
        arrays = self._stored.read(number, slice(first, first + together))
        rows = range(start + first, start + first + len(arrays["data"]))
        blocks = {}
        for i in self._within(index, rows):
            at = self.indices[i] - rows.start
            try:
                blocks[i] = _block(arrays["data"][at], arrays["label"][at], self.source(i))
            except CloudError:  # raised when that block is asked for
                if i == index:
                    raise
        return blocks

    def _within(self, index: int, rows: range) -> range:
        """The range of indices around ``index`` whose blocks lie in ``rows`` of all blocks."""
        first = last = index
        while first > 0 and self.indices[first - 1] in rows:
            first -= 1
        while last + 1 < len(self) and self.indices[last + 1] in rows:
            last += 1
        return range(first, last + 1)


def _area(room: str, path: Path) -> int:
    match = re.match(r"Area_([1-6])_", room)
    if match is None:
        raise CloudError(f"{path}: expected names of rooms, Area_1_... to Area_6_...; found {room[:60]!r}")
    return int(match[1])


def _block(data: np.ndarray, label: np.ndarray, source: str) -> Data:
    """``pos`` (P, 3), ``rgb`` (P, 3), ``x`` (P, 6) and ``point_y`` (P,) of one block, after a check of each."""
    pos, x = (torch.from_numpy(np.ascontiguousarray(part)) for part in (data[:, :3], data[:, 3:]))
    check_cloud(pos, source)
    if not bool(x.isfinite().all()):
        raise CloudError(f"{source}: NaN or infinite values in the columns 4 to 9, colour and place in the room")
    rgb = x[:, :3].clone()
    if float(rgb.min()) < 0 or float(rgb.max()) > 1:
        raise CloudError(
            f"{source}: expected colours from 0 to 1 in the columns 4 to 6; found {float(rgb.min()):g} to "
            f"{float(rgb.max()):g}"
        )
    point_y = torch.from_numpy(as_labels(label, f"{source}, label"))
    check_labels(point_y, len(CLASSES), source)
    return Data(pos=pos, rgb=rgb, x=x, point_y=point_y)
