"""A cache that keeps the clouds of data sets in memory, up to a limit."""

from typing import Any

from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

LIMIT = 1 << 30
"""The most bytes of clouds that a data module keeps in memory."""


class Room:
    """The bytes that several caches together may still use.

    Args:
        left: How many bytes there are at the start.
    """

    def __init__(self, left: int = LIMIT) -> None:
        self.left = left


class Cached(Dataset):
    """A data set that keeps its clouds in memory, the first ones read, as long as there is room.

    A kept cloud is never dropped for another, so a pass over a set that is too large still finds its first part.

    Args:
        dataset: Any data set. One that reads several clouds at once has ``read_with(index) -> dict[int, Data]``. Of one
            with ``cached = False`` nothing is kept, because the operating system keeps its files in memory.
        room: Room shared with other caches; by default this cache has its own.
    """

    def __init__(self, dataset: Any, room: Room | None = None) -> None:
        self.dataset, self.room = dataset, Room() if room is None else room
        self.cached: bool = getattr(dataset, "cached", True)
        self.kept: dict[int, Data] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Data:
        if not self.cached:
            return self.dataset[index]
        if index in self.kept:
            return self.kept[index]
        read = getattr(self.dataset, "read_with", None)
        clouds = {index: self.dataset[index]} if read is None else read(index)
        for number, cloud in clouds.items():
            size = sum(value.nbytes for value in cloud.to_dict().values() if isinstance(value, Tensor))
            if number not in self.kept and size <= self.room.left:
                self.room.left -= size
                self.bytes += size
                self.kept[number] = cloud
        return clouds[index]

    def __del__(self) -> None:
        self.room.left += self.bytes

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the clouds in memory: a worker process that receives the cache reads its own."""
        return self.__dict__ | {"kept": {}, "bytes": 0, "room": Room()}
