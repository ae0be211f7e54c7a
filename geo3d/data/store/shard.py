"""One shard of a store: a folder with the arrays of some clouds, which appears complete or not at all.

Of the arrays, ``FIELD.npy`` holds the rows of all clouds one after another, and cloud i has the rows ``ptr[i]`` to
``ptr[i + 1]``. A field per cloud has one entry for each. If only some of the clouds have a field, ``FIELD.ptr.npy``
holds the offsets of that field.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch_geometric.data import Data

from geo3d.cloud import FIELDS
from geo3d.data.store.packing import entry_shape, form, packed, storable_kinds, unpacked
from geo3d.errors import CloudError
from geo3d.io.files import draft_folder, existing_file, synchronize

ABOUT = "shard.json"
MOST_LABELS = 10_000
AGAIN = "delete the store and prepare it again"


class Entry(NamedTuple):
    """One cloud on its way into a shard."""

    name: str
    """Where it comes from, below the data set's folder."""
    label: int | None
    data: Data


def shard_folder(root: str | Path, split: str, number: int) -> Path:
    """Where the store keeps a shard."""
    return Path(root) / split / f"{number:06d}"


def write_shard(folder: Path, entries: Sequence[Entry], skipped: Sequence[str] = ()) -> None:
    """Write the clouds as the shard ``folder``; its parent must exist.

    Args:
        folder: The folder to make.
        entries: The clouds; either all have a label, or none has.
        skipped: The messages about clouds that were left out.

    Raises:
        CloudError: If two clouds have a field of different types or widths.
    """
    forms = _forms(entries)
    with draft_folder(folder.parent, folder.name) as draft:
        place = draft / folder.name
        place.mkdir()
        sizes: dict[str, dict[str, Any]] = {}
        for name, array in _arrays(entries, forms):
            with open(place / f"{name}.npy", "wb") as file:
                write_array(file, array)
                file.flush()
                os.fsync(file.fileno())
            sizes[f"{name}.npy"] = {"bytes": (place / f"{name}.npy").stat().st_size, "sha256": file_sum(file.name)}
        about = {
            "clouds": len(entries),
            "points": sum(len(entry.data.pos) for entry in entries),
            "skipped": list(skipped),
            "fields": forms,
            "point_labels": _label_counts(entries),
            "files": sizes,
        }
        (place / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        synchronize(place / ABOUT)
        synchronize(place)
        os.rename(place, folder)
        synchronize(folder.parent)


def write_array(file: BinaryIO, array: np.ndarray) -> None:
    """Write an array in NumPy's format.

    ``np.save`` does not say when the disk is full, only that fewer numbers were written.

    Raises:
        OSError: If it cannot be written.
    """
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    file.write(array.data if array.size else b"")


def _forms(entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    """The form of each field that occurs.

    Raises:
        CloudError: If it is not the same in all clouds.
    """
    forms: dict[str, dict[str, Any]] = {}
    for entry in entries:
        for name in (name for name in FIELDS if entry.data.get(name) is not None):
            here = form(name, torch.as_tensor(entry.data[name]))
            there = forms.setdefault(name, here)
            if there != here:
                raise CloudError(
                    f"{entry.name}: {name} is {here['dtype']} {here['shape']}, but {there['dtype']} {there['shape']} "
                    "in clouds before it; a store needs one form"
                )
    return forms


def _arrays(entries: Sequence[Entry], forms: dict[str, dict[str, Any]]) -> Iterator[tuple[str, np.ndarray]]:
    """Name and content of each array, one at a time, so that no two copies of the clouds are in memory for long."""
    sizes = [len(entry.data.pos) for entry in entries]
    yield "ptr", np.cumsum([0, *sizes], dtype=np.int64)
    yield "name", np.array([entry.name.encode("utf-8", "surrogateescape") for entry in entries], dtype="S")
    if entries and entries[0].label is not None:
        yield "label", np.array([entry.label for entry in entries], dtype=np.int64)
    for name in forms:
        values = [None if entry.data.get(name) is None else torch.as_tensor(entry.data[name]) for entry in entries]
        yield name, packed(name, [value for value in values if value is not None])
        if any(value is None for value in values):
            each = sizes if FIELDS[name].per == "point" else [1] * len(sizes)
            rows = [0 if value is None else size for value, size in zip(values, each, strict=True)]
            yield f"{name}.ptr", np.cumsum([0, *rows], dtype=np.int64)


def _label_counts(entries: Sequence[Entry]) -> dict[str, int] | None:
    """How many points have each label; None if a cloud has no labels of its points, or there are too many to list."""
    if not entries or any(entry.data.get("point_y") is None for entry in entries):
        return None
    labels, counts = torch.cat([entry.data.point_y for entry in entries]).unique(return_counts=True)
    if labels.is_floating_point() or len(labels) > MOST_LABELS:
        return None
    return dict(zip(map(str, labels.tolist()), counts.tolist(), strict=True))


def array_bytes(folder: Path) -> int:
    """The sizes of all arrays of a shard together.

    Raises:
        CloudError: If the folder is missing or cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.name.endswith(".npy"))
    except FileNotFoundError:
        raise CloudError(f"{folder}: missing; {AGAIN}") from None
    except OSError as error:
        raise CloudError(f"{folder}: cannot be read: {error.strerror}") from error


def file_sum(path: str | Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            total.update(piece)
    return total.hexdigest()


def about_shard(folder: Path) -> dict[str, Any]:
    """What ``shard.json`` says, after a check that all arrays are there in full size.

    Raises:
        CloudError: If it is damaged, or an array is missing or has another size.
    """
    path = existing_file(folder / ABOUT)
    try:
        about = json.loads(path.read_bytes())
        wanted = {str(name): int(each["bytes"]) for name, each in about["files"].items()}
        _ = int(about["clouds"]), int(about["points"]), dict(about["fields"]), list(about["skipped"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CloudError(f"{path}: damaged or cut off ({type(error).__name__}); {AGAIN}") from error
    for name, size in wanted.items():
        if Path(name).name != name or not (folder / name).is_file():
            raise CloudError(f"{folder / name}: missing; {AGAIN}")
        if (actual := (folder / name).stat().st_size) != size:
            raise CloudError(f"{folder / name}: expected {size} bytes, found {actual}; {AGAIN}")
    return about


def damaged_files(folder: Path) -> Iterator[str]:
    """One message for each array of a shard whose content is not what was written."""
    for name, each in about_shard(folder)["files"].items():
        if file_sum(folder / name) != each["sha256"]:
            yield f"{folder / name}: its content has changed since it was written (SHA-256 differs); {AGAIN}"


class Shard:
    """The clouds of one shard; the arrays are mapped into memory, and a cloud is a copy of its own rows.

    Args:
        folder: The folder.
        expected: The SHA-256 of its ``shard.json``, by the store.

    Raises:
        CloudError: If a file is missing, damaged, or does not fit the others.
    """

    def __init__(self, folder: Path, expected: str) -> None:
        self.folder, about = folder, about_shard(folder)
        if file_sum(folder / ABOUT) != expected:
            raise CloudError(f"{folder / ABOUT}: belongs to another store, or has changed; {AGAIN}")
        self.clouds, self.points = int(about["clouds"]), int(about["points"])
        self.ptr = self._offsets("ptr", self.points)
        self.fields: list[tuple[str, np.ndarray, np.ndarray, dict[str, Any]]] = []
        for name, each in about["fields"].items():
            if name not in FIELDS:
                raise CloudError(f"{folder / ABOUT}: {name} is not a field that this geo3d knows; update geo3d")
            self.fields.append((name, *self._field(name, each, f"{name}.ptr.npy" in about["files"]), each))

    def _field(self, name: str, about: dict[str, Any], own: bool) -> tuple[np.ndarray, np.ndarray]:
        """The array of a field and its offsets."""
        array = self._mapped(name)
        every = self.ptr if FIELDS[name].per == "point" else np.arange(self.clouds + 1)
        offsets = self._offsets(f"{name}.ptr", len(array)) if own else every
        inner = about["shape"] if FIELDS[name].per == "point" else entry_shape(name, about["shape"])
        wanted, kinds = (int(offsets[-1]), *inner), storable_kinds(name, about["dtype"])
        if array.shape != wanted or array.dtype.name not in kinds:
            raise CloudError(
                f"{self.folder / name}.npy: expected {wanted} of {' or '.join(kinds)}, found {array.shape} of "
                f"{array.dtype}; {AGAIN}"
            )
        return array, offsets

    def _offsets(self, name: str, total: int) -> np.ndarray:
        """Offsets of all clouds, in memory."""
        offsets = np.array(self._mapped(name))
        if offsets.dtype != np.int64 or offsets.shape != (self.clouds + 1,) or not (np.diff(offsets) >= 0).all():
            raise CloudError(f"{self.folder / name}.npy: expected {self.clouds + 1} rising offsets; {AGAIN}")
        if offsets[0] != 0 or offsets[-1] != total:
            raise CloudError(f"{self.folder / name}.npy: expected offsets from 0 to {total}, one row each; {AGAIN}")
        return offsets

    def _mapped(self, name: str) -> np.ndarray:
        return mapped(self.folder / f"{name}.npy")

    @cached_property
    def names(self) -> np.ndarray:
        """(n,) the names of the clouds, as bytes."""
        return self._mapped("name")

    def cloud(self, index: int) -> Data:
        """Cloud ``index`` of this shard, as the data set gave it."""
        tensors = {}
        for name, array, offsets, about in self.fields:
            first, end = int(offsets[index]), int(offsets[index + 1])
            if first < end:
                value = unpacked(array[first:end], about["dtype"])
                one = value if FIELDS[name].per == "point" else value.reshape(about["shape"])
                tensors[name] = torch.from_numpy(one)
        return Data(**tensors)


def mapped(path: Path) -> np.ndarray:
    """The array in a ``.npy`` file, mapped into memory and not read.

    Raises:
        CloudError: If the file is missing, damaged, or holds objects instead of numbers.
    """
    try:
        return np.load(existing_file(path), mmap_mode="r", allow_pickle=False).view(np.ndarray)
    except (ValueError, EOFError, OSError) as error:
        raise CloudError(f"{path}: not an array of numbers ({str(error)[:100]}); {AGAIN}") from error
