"""The one cache of clouds: what a data set gave stays in memory, up to a limit."""

from typing import Any

from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

LIMIT = 1 << 30
"""Bytes that are kept of a data set."""


class Cached(Dataset):
    """A data set whose clouds are made once and kept, the first ones up to ``room`` bytes.

    Kept clouds are never dropped for others: a pass over a larger set still finds its first part.

    Args:
        dataset: Any. One that gives several clouds at once has ``read(index) -> dict[int, Data]``.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset, self.room = dataset, LIMIT
        self.kept: dict[int, Data] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Data:
        if index in self.kept:
            return self.kept[index]
        read = getattr(self.dataset, "read", None)
        found = {index: self.dataset[index]} if read is None else read(index)
        for number, cloud in found.items():
            size = sum(value.nbytes for value in cloud.to_dict().values() if isinstance(value, Tensor))
            if number not in self.kept and size <= self.room:
                self.room -= size
                self.kept[number] = cloud
        return found[index]

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the clouds in memory: a worker process that is sent this reads its own."""
        return self.__dict__ | {"kept": {}, "room": LIMIT}
