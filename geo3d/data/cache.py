"""The one cache of clouds: what a data set gave stays in memory, up to a limit."""

from typing import Any

from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

LIMIT = 1 << 30
"""Bytes of all clouds that are kept of a data module."""


class Room:
    """How many bytes are left for several caches together.

    Args:
        left: At the start.
    """

    def __init__(self, left: int = LIMIT) -> None:
        self.left = left


class Cached(Dataset):
    """A data set whose clouds are made once and kept, the first ones as long as there is room.

    Kept clouds are never dropped for others: a pass over a larger set still finds its first part.

    Args:
        dataset: Any. One that gives several clouds at once has ``read(index) -> dict[int, Data]``.
        room: Shared with other caches; by default its own.
    """

    def __init__(self, dataset: Any, room: Room | None = None) -> None:
        self.dataset, self.room = dataset, Room() if room is None else room
        self.kept: dict[int, Data] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Data:
        if index in self.kept:
            return self.kept[index]
        read = getattr(self.dataset, "read", None)
        found = {index: self.dataset[index]} if read is None else read(index)
        for number, cloud in found.items():
            size = sum(value.nbytes for value in cloud.to_dict().values() if isinstance(value, Tensor))
            if number not in self.kept and size <= self.room.left:
                self.room.left -= size
                self.bytes += size
                self.kept[number] = cloud
        return found[index]

    def __del__(self) -> None:
        self.room.left += self.bytes

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the clouds in memory: a worker process that is sent this reads its own."""
        return self.__dict__ | {"kept": {}, "bytes": 0, "room": Room()}
