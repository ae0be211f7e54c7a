"""Builds a store: every cloud of a data set, checked and written once, by several processes."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch

import geo3d
from geo3d.checks import Length, OneOf, Range, Split, checked, parameters
from geo3d.data.store.description import FORMAT, PLAN, STORE, check_same_plan, read_object
from geo3d.data.store.packing import check_storable
from geo3d.data.store.summary import summary
from geo3d.data.store.writer import Watch, check_whole, source_of, write_all
from geo3d.errors import CloudError, ConfigError, SplitError
from geo3d.io.files import write_json
from geo3d.io.owner import owned

SHARD = 1 << 26
"""About this many bytes of clouds make a shard, if all are as large as the first one."""
MOST = 65_536
"""The most clouds of a shard, unless the user asks for more."""


@checked
def build_store(
    dataset_class: Callable[..., Any],
    out: str | Path,
    *,
    workers: Annotated[int, Range(1, 256)] | None = None,
    damaged: Annotated[str, OneOf("stop", "skip")] = "stop",
    clouds_per_shard: Annotated[int, Range(1, 1_000_000)] | None = None,
    splits: Annotated[Sequence[Split], Length(1, 2)] = ("train", "test"),
    watch: Watch | None = None,
    **options: Any,
) -> dict[str, Any]:
    """What ``store.json`` says of the new store in ``out``.

    A build that was stopped goes on at the first missing shard. The files do not depend on the number of workers.

    Args:
        dataset_class: Called with ``split`` and ``options``.
        out: Folder of the store: new, empty, or with an unfinished store of the same settings.
        workers: Processes that read and write; by default one for each core.
        damaged: ``stop`` at a damaged cloud, or ``skip`` and count it.
        clouds_per_shard: Clouds in a shard; by default about 64 MiB of them. A worker holds one shard in memory.
        splits: The splits to write; those that the data set does not have are left out.
        watch: Called after every shard with the clouds that are done and those that there are.
        options: Keywords of ``dataset_class``.

    Raises:
        ConfigError: If the folder holds something else, or another process works in it.
        CloudError: If a cloud is damaged, or all are.
        OSError: If the disk is full.
    """
    out = Path(out)
    _check_outside(out, options.get("root"))
    datasets = dict(_opened(dataset_class, splits, options))
    with _one_thread():
        plan = _plan(dataset_class, datasets, options, clouds_per_shard, damaged)
        check_same_plan(out, plan)
        with owned(out), _place_named(out):
            check_same_plan(out, plan)  # another process may have been faster
            if (out / STORE).exists():
                stored = read_object(out / STORE)
                for each in stored["splits"].values() if damaged == "stop" else ():
                    check_whole(each["messages"], out)
                return stored
            write_json(out / PLAN, plan)
            write_all(out, datasets, plan, workers or _cores(), damaged, watch)
            described = plan | {"splits": {split: summary(out, split, datasets[split], plan) for split in datasets}}
            write_json(out / STORE, described)
    return json.loads(json.dumps(described))


@contextmanager
def _place_named(out: Path) -> Iterator[None]:
    """Give errors of the operating system that name no file the name of the store."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(out / STORE)) from error


def _check_outside(out: Path, root: Any) -> None:
    """Check that the store does not become a part of the data set that it is made of.

    Raises:
        ConfigError: If it would.
    """
    if isinstance(root, str | Path) and out.resolve().is_relative_to(Path(root).resolve()):
        raise ConfigError(
            f"out={out}: lies in root={root}, so the store would be a part of the data; give another out=DIR"
        )


def _cores() -> int:
    """How many cores this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, 256)


def _opened(
    dataset_class: Callable[..., Any], splits: Sequence[str], options: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    """The data set of each split that there is.

    Raises:
        SplitError: If there is none.
    """
    refusal: SplitError | None = None
    some = False
    for split in dict.fromkeys(splits):
        try:
            dataset = dataset_class(split=split, **options)
        except SplitError as error:
            refusal = error
            continue
        if len(dataset) == 0:
            raise CloudError(f"the {split} split of {type(dataset).__name__} holds no cloud")
        some = True
        yield split, dataset
    if not some and refusal is not None:
        raise refusal


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of torch, as in a worker process, so that sums have the same order everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _plan(
    dataset_class: Callable[..., Any],
    datasets: dict[str, Any],
    options: dict[str, Any],
    clouds_per_shard: int | None,
    damaged: str,
) -> dict[str, Any]:
    """Everything that the content of the store depends on, as JSON types; where the data lie is not a part of it."""
    takes = parameters(dataset_class)
    said = {name: each.default for name, each in takes.items() if each.default is not each.empty} | options
    kept = {name: value for name, value in said.items() if name not in ("root", "split", "**")}
    return {
        "format": FORMAT,
        "geo3d": geo3d.__version__,
        "data": dataset_class.__name__,
        "options": json.loads(json.dumps(kept, default=str)),
        "splits": {
            split: {
                "clouds_per_shard": clouds_per_shard or _fitting(dataset, damaged),
                "read": len(dataset),
                "manifest": json.loads(json.dumps(dataset.manifest())),
            }
            for split, dataset in datasets.items()
        },
    }


def _fitting(dataset: Any, damaged: str) -> int:
    """How many clouds like the first sound one make a shard.

    Raises:
        CloudError: If no cloud is sound; without ``skip``, if the first one is not.
    """
    for index in range(len(dataset)):
        try:
            cloud = dataset[index]
            check_storable(cloud, source_of(dataset, index))
        except CloudError:
            if damaged == "stop" or index == len(dataset) - 1:
                raise
            continue
        size = sum(torch.as_tensor(value).nbytes for value in cloud.to_dict().values())
        return max(1, min(MOST, SHARD // size))
    raise AssertionError("a data set holds at least one cloud")
