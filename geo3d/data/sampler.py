"""The order of training clouds, the same for every number of loader workers."""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Sampler

from geo3d.distributed import world_size
from geo3d.seeds import generator


class KeyedShuffle(Sampler[int]):
    """Indices in a random order, keyed by (seed, epoch).

    With several processes, each gets its own rows of every joint batch. Indices that fill no joint batch are left out.

    Args:
        indices: The indices to shuffle.
        batch_size: Batch size of one process.
        seed: Part of the key.
    """

    def __init__(self, indices: Tensor, batch_size: int, seed: int) -> None:
        self.indices, self.batch_size, self.seed, self.epoch = indices, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.indices) // world_size()

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(len(self.indices), generator=generator(self.seed, "order", self.epoch))
        shuffled = self.indices[order]
        world = world_size()
        if world > 1:
            count = len(shuffled) // (world * self.batch_size) * world * self.batch_size
            shuffled = shuffled[:count].view(-1, world, self.batch_size)[:, dist.get_rank()].reshape(-1)
        return iter(shuffled.tolist())
