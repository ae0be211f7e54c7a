"""Lists of the few scenes, or the few labelled points, that a label-efficient training may use."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geo3d.errors import CloudError
from geo3d.io.arrays import read_archive
from geo3d.io.files import read_bytes

PICKLES = (".pth", ".pt", ".pkl", ".pickle")
CONVERT = (
    "json.dump({name: [int(i) for i in rows] for name, rows in torch.load(FILE).items()}, open('points.json', 'w'))"
)


def read_names(path: str | Path) -> list[str]:
    """The names of scenes in a text file, or in a JSON list if the name of the file ends so; each once.

    Raises:
        CloudError: If the file is missing, empty, or lists something else.
    """
    path = Path(path)
    content = _not_pickled(path)
    listed = path.suffix.lower() == ".json"
    names = _json(path, content) if listed else content.decode("utf-8", "replace").split()
    plain = isinstance(names, list) and all(isinstance(name, str) and _is_name(name) for name in names)
    if not plain or not names or len(set(names)) < len(names):
        raise CloudError(f"{path}: expected the name of a scene in each line, each once")
    return names


def kept_scenes(path: str | Path, known: Collection[str]) -> set[str]:
    """The scenes that a list keeps.

    Raises:
        CloudError: If the list cannot be read, or has a scene that is not ``known``.
    """
    names = read_names(path)
    _check_known(path, names, known)
    return set(names)


def kept_points(path: str | Path, known: Collection[str]) -> dict[str, Tensor]:
    """For each scene in the list, the indices (n,) of the vertices whose labels are kept.

    Args:
        path: JSON, ``{scene: [index, ...]}``, or an NPZ file with an array of integers for each scene.
        known: The names of the scenes that there are.

    Raises:
        CloudError: If the file is pickled, cannot be read, has an unknown scene, or indices that are no integers from 0
            on.
    """
    path = Path(path)
    content = _not_pickled(path)
    rows: Any = read_archive(path) if path.suffix.lower() == ".npz" else _json(path, content)
    if not isinstance(rows, dict) or not rows:
        raise CloudError(f"{path}: expected scenes with the indices of vertices, as JSON or NPZ")
    _check_known(path, list(rows), known)
    return {name: _indices(path, name, values) for name, values in rows.items()}


def only(labels: Tensor, rows: Tensor, path: str | Path, source: str) -> Tensor:
    """The labels (N,) of some rows; -1 for all others.

    Raises:
        CloudError: If there is no such row; the message names the list ``path`` and the scene ``source``.
    """
    if len(rows) and int(rows.max()) >= len(labels):
        raise CloudError(f"{path}: lists vertex {int(rows.max())} of {source}, which has {len(labels)} (from 0 on)")
    kept = torch.full_like(labels, -1)
    kept[rows] = labels[rows]
    return kept


def fingerprint(path: str | Path) -> str:
    """The SHA-256 of a list, for manifests."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def _not_pickled(path: Path) -> bytes:
    """The content of a file, after a check that it is no pickle, because reading one can run any program."""
    content = read_bytes(path)
    zipped = content.startswith(b"PK") and b"/data.pkl" in content[:4096]
    if path.suffix.lower() in PICKLES or content.startswith(b"\x80") or zipped:
        raise CloudError(f"{path}: a pickled file is not read; convert it to JSON, in Python with torch: {CONVERT}")
    return content


def _json(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content, object_pairs_hook=lambda pairs: _each_once(path, pairs))
    except (ValueError, RecursionError) as error:
        raise CloudError(f"{path}: expected JSON; damaged or cut off: {str(error)[:100]}") from error


def _each_once(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The entries of a JSON object; Python would keep only the last of two with one name."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise CloudError(f"{path}: expected every scene once, found {len(pairs)} entries of {len(entries)} names")
    return entries


def _check_known(path: str | Path, names: list[str], known: Collection[str]) -> None:
    strange = [name for name in names if name not in known]
    if strange:
        raise CloudError(
            f"{path}: {len(strange)} of its {len(names)} scenes are no training scenes, {strange[0][:60]} first"
        )


def _is_name(name: str) -> bool:
    return bool(name) and "/" not in name and not name.startswith(".")


def _indices(path: Path, name: str, values: Any) -> Tensor:
    """(n,) int64 indices of vertices, from a list or an array."""
    array = values if isinstance(values, np.ndarray) else np.array([-1])
    if isinstance(values, list) and all(type(value) is int and 0 <= value < 2**53 for value in values):
        array = np.array(values, dtype=np.int64)
    whole = array.ndim == 1 and array.dtype.kind in "iu"
    if not whole or (array.size and not 0 <= int(array.min()) <= int(array.max()) < 2**53):
        raise CloudError(f"{path}: {name}: expected a list of integers from 0 on, the indices of vertices")
    return torch.from_numpy(array.astype(np.int64))
