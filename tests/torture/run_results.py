"""What a run folder says, without what may differ between equal runs: times, and sums over files that hold times."""

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from safetensors import safe_open

TIMES = re.compile(r"seconds|clouds_per_s|sha256|checksum|sum|versions|git")
NOT_COMPARED = {".png", ".ckpt"}  # that they are there is


def results(folder: Path) -> dict[str, Any]:
    """The content of every file below the folder by relative name; weights and arrays as bytes."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and "tensorboard" not in file.parts]
    return {file.relative_to(folder).as_posix(): readable(file) for file in files}


def readable(file: Path) -> Any:
    """What one file says, or that it cannot be read; nothing of one with a temporary name, which may be cut off."""
    try:
        return None if file.name.startswith(".") else content(file)
    except Exception as error:  # json, csv, zipfile, NumPy and safetensors raise a dozen kinds between them
        return f"cannot be read: {error}"


def content(file: Path) -> Any:
    """What one file says."""
    if file.suffix in NOT_COMPARED or file.name in ("versions.json", "traceback.txt"):
        return None
    if file.suffix == ".json":
        return timeless(json.loads(file.read_text()))
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as weights:
            metadata = {key: timeless(plain(value)) for key, value in (weights.metadata() or {}).items()}
        tensors = safetensors.torch.load_file(file)
        return {key: (str(v.dtype), tuple(v.shape), v.numpy().tobytes()) for key, v in tensors.items()} | metadata
    if file.suffix in (".npz", ".npy"):
        with np.load(file) as stored:
            return {key: (value.dtype.str, value.shape, value.tobytes()) for key, value in stored.items()}
    if file.suffix == ".csv":
        return [timeless(row) for row in csv.DictReader(file.read_text().splitlines())]
    return file.read_bytes()


def plain(text: str) -> Any:
    """The text, or what it says as JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None if re.fullmatch("[0-9a-f]{64}", text) else text


def timeless(value: Any) -> Any:
    """The same without times and sums."""
    if isinstance(value, Mapping):
        return {key: timeless(each) for key, each in value.items() if not TIMES.search(key)}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The first thing that sets two results apart; empty if nothing does."""
    if missing := sorted(expected.keys() - found.keys()):
        return f"missing: {', '.join(missing[:3])}"
    if other := [name for name in expected if expected[name] != found[name]]:
        return f"other content: {', '.join(other[:3])}"
    left = sorted(found.keys() - expected.keys())
    return f"left behind: {', '.join(left[:3])}" if left else ""
