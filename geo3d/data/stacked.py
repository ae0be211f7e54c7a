"""Clouds of equal size that lie one after another in HDF5 files."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from geo3d.data.targets import check_labels
from geo3d.errors import CloudError
from geo3d.io.hdf5 import open_hdf5
from geo3d.io.names import as_labels
from geo3d.io.precision import check_precision

Columns = Mapping[str, tuple[int, ...]]


class Stacked:
    """The clouds of several HDF5 files, counted through. No file stays open.

    Making one opens every file once and compares the shapes, but reads no cloud.

    Args:
        files: The files, in order.
        columns: The arrays that each file must hold: the shape of one cloud's entry by name, where -1 stands for the
            number of points. ``data`` holds floats, the coordinates first; the others hold whole numbers. One number
            per cloud, ``()``, may also be stored as (n, 1).

    Raises:
        CloudError: If a file is missing or damaged, or lacks an array of that shape.
    """

    def __init__(self, files: Sequence[Path], columns: Columns) -> None:
        self.files, self.columns = list(files), dict(columns)
        shapes = [self._measured(file) for file in self.files]
        self.together = [together for _, together in shapes]
        """How many clouds of each file are stored, and thus unpacked, together."""
        self.starts = [0, *accumulate(count for count, _ in shapes)]
        """The index of the first cloud of each file, and the number of all clouds."""
        self._kept: dict[int, dict[str, np.ndarray] | str] = {}

    def _measured(self, file: Path) -> tuple[int, int]:
        """The number of clouds in a file, and how many of them are stored together."""
        with open_hdf5(file) as stored:
            if not set(self.columns) <= stored.keys():
                names = ", ".join(sorted(stored)) or "none"
                raise CloudError(f"{file}: expected the keys {', '.join(self.columns)}; found {names}"[:400])
            data = stored["data"]
            count, points = (*data.shape, 0, 0)[:2]
            for name, shape in self.columns.items():
                _check_column(stored[name], (count, *(points if size < 0 else size for size in shape)), name, file)
            if not count or not points:
                raise CloudError(f"{file}: expected clouds of one or more points; found data of shape {data.shape}")
            return count, data.chunks[0] if data.chunks else 1

    def __len__(self) -> int:
        return self.starts[-1]

    def place(self, index: int) -> tuple[int, int]:
        """The number of the file that holds cloud ``index``, and the cloud's number in that file."""
        number = bisect_right(self.starts, index) - 1
        return number, index - self.starts[number]

    def source(self, index: int) -> str:
        """The file of cloud ``index`` and the cloud's number in it."""
        number, row = self.place(index)
        return f"{self.files[number]}, cloud {row}"

    def labels(self, name: str, num_classes: int) -> Tensor:
        """(len,) int64 classes of all clouds, from the array ``name`` of one number per cloud.

        Raises:
            CloudError: If one is not a class.
        """
        parts = []
        for file in self.files:
            with open_hdf5(file) as stored:
                labels = torch.from_numpy(as_labels(stored[name][()].reshape(-1), f"{file}, {name}"))
            check_labels(labels, num_classes, f"{file}, {name}")
            parts.append(labels)
        return torch.cat(parts)

    def read(self, number: int, rows: slice) -> dict[str, np.ndarray]:
        """The arrays of some clouds of file ``number``, each with a row per cloud; ``data`` in float32.

        Raises:
            CloudError: If the file is damaged, or float32 would lose the shape of a cloud.
        """
        with open_hdf5(self.files[number]) as stored:
            arrays = {name: np.asarray(stored[name][rows]) for name in self.columns}
        if arrays["data"].dtype.itemsize > 4:
            for row, cloud in enumerate(arrays["data"], rows.start or 0):
                check_precision(cloud[:, :3], f"{self.files[number]}, cloud {row}")
        arrays["data"] = arrays["data"].astype(np.float32, copy=False)
        return arrays

    def cloud(self, index: int) -> dict[str, np.ndarray]:
        """The arrays of cloud ``index``. Its file is read whole, and kept in memory.

        Raises:
            CloudError: If the file is damaged; the file is not read again for its other clouds.
        """
        number, row = self.place(index)
        if number not in self._kept:
            try:
                self._kept[number] = self.read(number, slice(None))
            except CloudError as error:
                self._kept[number] = str(error)
        kept = self._kept[number]
        if isinstance(kept, str):
            raise CloudError(kept)
        return {name: values[row] for name, values in kept.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the clouds in memory: a worker process reads its own."""
        return self.__dict__ | {"_kept": {}}


def _check_column(item: h5py.Dataset, shape: tuple[int, ...], name: str, file: Path) -> None:
    """Check shape and dtype of one array of a file."""
    same = item.shape == shape or (len(shape) == 1 and item.shape == (*shape, 1))
    kinds = "f" if name == "data" else "fiu"
    if not same or item.dtype.kind not in kinds or (name == "data" and item.dtype.itemsize < 4):
        what = "float32" if name == "data" else "whole numbers"
        wanted = ("n, P, " + ", ".join(map(str, shape[2:]))) if name == "data" else ", ".join(map(str, shape))
        raise CloudError(f"{file}: expected {name} ({wanted}) of {what}; found {item.shape} of {item.dtype}")
