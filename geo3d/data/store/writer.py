"""Writes the shards of a store, by several processes; what a killed run has finished is kept."""

import errno
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from geo3d.data.cache import Cached
from geo3d.data.store.packing import check_storable
from geo3d.data.store.shard import Entry, about_shard, shard_folder, write_shard
from geo3d.data.targets import labels_of
from geo3d.errors import CloudError
from geo3d.io.owner import made, sweep

Watch = Callable[[int, int], None]


def source_of(dataset: Any, index: int) -> str:
    """Where a cloud comes from, for messages."""
    return dataset.source(index) if hasattr(dataset, "source") else f"{type(dataset).__name__}, cloud {index}"


class Failure(NamedTuple):
    """Why a worker could not write a shard."""

    text: str
    number: int | None = None
    """The number of an error of the operating system; None if a cloud is damaged."""
    file: str | None = None
    """The file that could not be read or written; None for the store."""


class Shards(Dataset):
    """Writes shard ``number`` of a split when item ``number`` is asked for; the item is None, or a :class:`Failure`.

    Args:
        dataset: The data set of the split.
        out: Folder of the store.
        split: Name of the split.
        size: Clouds of a shard.
        damaged: ``stop`` or ``skip``.
    """

    def __init__(self, dataset: Any, out: Path, split: str, size: int, damaged: str) -> None:
        self.dataset, self.out, self.split, self.size, self.damaged = dataset, out, split, size, damaged

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.size)

    def __getitem__(self, number: int) -> Failure | None:
        try:
            entries, skipped = self._read(number)
            write_shard(shard_folder(self.out, self.split, number), entries, skipped)
        except CloudError as error:
            return Failure(str(error))
        except OSError as error:  # as a value, because a loader would turn it into an error without a number
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)  # then the name is that of a draft
            return Failure(error.strerror or str(error), error.errno or 0, None if full else error.filename)
        return None

    def _read(self, number: int) -> tuple[list[Entry], list[str]]:
        """The sound clouds of a shard, and the messages about the others."""
        # files of many clouds are read once for a shard
        clouds = Cached(self.dataset) if hasattr(self.dataset, "read_with") else self.dataset
        labels = labels_of(self.dataset)
        entries: list[Entry] = []
        skipped: list[str] = []
        for index in range(number * self.size, min((number + 1) * self.size, len(self.dataset))):
            source = source_of(self.dataset, index)
            label = None if labels is None else int(labels[index])
            try:
                cloud = clouds[index]
                check_storable(cloud, source)
                if label is not None and cloud.get("y") is not None and int(cloud.y) != label:
                    raise CloudError(f"{source}: y is {int(cloud.y)}, but labels[{index}] is {label}; make them equal")
            except CloudError as error:
                if self.damaged == "stop":
                    raise
                skipped.append(str(error))
                continue
            entries.append(Entry(self._name(source), label, cloud))
        return entries, skipped

    def _name(self, source: str) -> str:
        """The name of a cloud below the folder of its data set, so that a store is the same wherever that lies."""
        return source.removeprefix(f"{getattr(self.dataset, 'root', '')}/")


def write_all(
    out: Path, datasets: dict[str, Any], plan: dict[str, Any], workers: int, damaged: str, watch: Watch | None
) -> None:
    """Write the shards that are not there yet.

    Raises:
        CloudError: If a cloud is damaged.
        OSError: If a file cannot be written.
    """
    total, done = sum(map(len, datasets.values())), 0
    for split, dataset in datasets.items():
        folder = made(out / split)
        sweep(folder)
        shards = Shards(dataset, out, split, plan["splits"][split]["clouds_per_shard"], damaged)
        todo = []
        for number in range(len(shards)):
            if not shard_folder(out, split, number).exists():
                todo.append(number)
                continue
            if damaged == "stop":
                check_whole(about_shard(shard_folder(out, split, number))["skipped"], out)
        try:
            done += len(dataset) - sum(_size(shards, number) for number in todo)
            if watch is not None:
                watch(done, total)
            for number, failure in zip(todo, _outcomes(shards, todo, workers), strict=True):
                if failure is not None and failure.number is None:
                    raise CloudError(failure.text)
                if failure is not None:
                    raise OSError(failure.number, failure.text, failure.file)
                done += _size(shards, number)
                if watch is not None:
                    watch(done, total)
        finally:
            sweep(folder)  # what workers had begun


def check_whole(skipped: Sequence[str], out: Path) -> None:
    """Check that no clouds were left out before.

    Raises:
        CloudError: If some were.
    """
    if skipped:
        raise CloudError(f"{skipped[0]}; damaged=skip leaves such clouds out, as before in out={out}")


def _size(shards: Shards, number: int) -> int:
    """How many clouds of the data set belong to a shard."""
    return min(shards.size, len(shards.dataset) - number * shards.size)


def _outcomes(shards: Shards, todo: list[int], workers: int) -> Iterable[Failure | None]:
    """The outcome of each shard, in order, so that of several damaged clouds always the first one is reported."""
    count = min(workers, len(todo))
    if count < 2:
        return map(shards.__getitem__, todo)
    draws = torch.Generator()  # a loader would draw from the global generator
    return DataLoader(
        shards, batch_size=None, sampler=todo, num_workers=count, prefetch_factor=1, collate_fn=_same, generator=draws
    )


def _same(item: Any) -> Any:
    return item
