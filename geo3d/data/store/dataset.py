"""The data set: clouds of a store, read from disk as they are needed."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import Split, checked
from geo3d.data.store.description import STORE, read_store, targets_from_json
from geo3d.data.store.shard import ABOUT, AGAIN, Shard, about_shard, array_bytes, damaged_files, mapped, shard_folder
from geo3d.data.targets import Target
from geo3d.errors import CloudError, SplitError

OPEN = 1024
"""At most this many shards are mapped at once: systems limit the number of mappings of a process."""


class Store(Dataset):
    """The clouds of a data set that ``geo3d data prepare`` has written as arrays, equal to those it was made of.

    Nothing is kept in memory but the offsets in shards that were used; the operating system keeps what it has room for.

    Args:
        root: The folder of the store.
        split: "train" or "test".

    Raises:
        CloudError: If the store is not finished, of a newer format, or an array is missing or cut off.
        SplitError: If the store has no such split.
    """

    cached = False
    """The operating system keeps the files in memory already."""

    @checked
    def __init__(self, root: str | Path, split: Split = "train") -> None:
        self.root, self.split = root, split
        stored = read_store(root)
        try:
            self._read(stored["splits"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CloudError(
                f"{Path(root) / STORE}: damaged ({type(error).__name__}: {str(error)[:80]}); {AGAIN}"
            ) from error

    def _read(self, splits: dict[str, Any]) -> None:
        if self.split not in splits:
            raise SplitError(f"{self.root}: the store has no split {self.split!r}; it has {', '.join(splits)}")
        stored = splits[self.split]
        self.classes: list[str] = list(stored["classes"])
        self.targets: dict[str, Target] = targets_from_json(stored["targets"])
        """What can be learned, as the data set said."""
        self.point_labels: dict[int, int] | None = None
        """How many points have each label; None if not all clouds have labels of their points."""
        if stored["point_labels"] is not None:
            self.point_labels = {int(label): int(count) for label, count in stored["point_labels"].items()}
        self._stored, self._labelled = stored["manifest"], bool(stored["labels"])
        self._counts = {key: int(stored[key]) for key in ("clouds", "points", "skipped")}
        self._digest, self._sums = str(stored["sha256"]), [str(each["sha256"]) for each in stored["shards"]]
        self._starts = np.cumsum([0, *(int(each["clouds"]) for each in stored["shards"])])
        self._open: dict[int, Shard] = {}
        if int(self._starts[-1]) != self._counts["clouds"]:
            raise ValueError(f"{self._counts['clouds']} clouds, but {self._starts[-1]} in its shards")
        for number, each in enumerate(stored["shards"]):
            _check_size(self._folder(number), int(each["bytes"]))

    def _folder(self, number: int) -> Path:
        return shard_folder(self.root, self.split, number)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Data:
        if not -len(self) <= index < len(self):
            raise IndexError(f"cloud {index} of {len(self)}")
        number, within = self._place(index % len(self))
        return self._shard(number).cloud(within)

    def _place(self, index: int) -> tuple[int, int]:
        """The shard of a cloud, and its number in there."""
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return number, index - int(self._starts[number])

    def _shard(self, number: int) -> Shard:
        shard = self._open.get(number)
        if shard is None:
            if len(self._open) >= OPEN:
                del self._open[next(iter(self._open))]
            shard = self._open[number] = Shard(self._folder(number), self._sums[number])
            expected = int(self._starts[number + 1] - self._starts[number])
            if shard.clouds != expected:
                del self._open[number]
                raise CloudError(f"{shard.folder}: expected {expected} clouds, found {shard.clouds}; {AGAIN}")
        return shard

    @cached_property
    def labels(self) -> Tensor | None:
        """(len,) int64, if the data set had labels."""
        if not self._labelled:
            return None
        parts = []
        for number, size in enumerate(np.diff(self._starts).tolist()):
            if size:
                part = mapped(path := self._folder(number) / "label.npy")
                if part.dtype != np.int64 or part.shape != (size,):
                    raise CloudError(f"{path}: expected {size} labels, found {part.shape} of {part.dtype}; {AGAIN}")
                parts.append(part)
        return torch.from_numpy(np.concatenate(parts))

    def source(self, index: int) -> str:
        """The shard of cloud ``index``, its number in there, and the name of the file that it came from."""
        number, within = self._place(index % len(self))
        name = bytes(self._shard(number).names[within]).decode("utf-8", "replace")
        return f"{self._folder(number)}, cloud {within} ({name})"

    def damaged_files(self) -> list[str]:
        """One message for each array whose content is not what was written; reads all files."""
        return [text for number in range(len(self._sums)) for text in damaged_files(self._folder(number))]

    def manifest(self) -> dict[str, Any]:
        """What the store was made of, how many clouds it has, and a hash of all of them."""
        return {"name": "Store", "split": self.split, "source": self._stored, **self._counts, "sha256": self._digest}

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the arrays: a worker process that receives the data set maps its own."""
        return {key: value for key, value in self.__dict__.items() if key != "labels"} | {"_open": {}}


def _check_size(folder: Path, expected: int) -> None:
    """Check that the arrays of a shard have as many bytes as they should.

    Raises:
        CloudError: If not; the message names the first file that is missing or of another size.
    """
    if array_bytes(folder) != expected:
        about_shard(folder)
        raise CloudError(f"{folder}: {ABOUT} belongs to another store, or has changed; {AGAIN}")
