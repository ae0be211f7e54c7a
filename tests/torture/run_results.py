"""The content of a run folder, without what may differ between equal runs: times, and sums of files that hold times."""

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
NOT_COMPARED = {".png", ".ckpt"}  # only the existence of these files is compared


def results(folder: Path) -> dict[str, Any]:
    """Relative name -> content, for every file below the folder; weights and arrays as bytes."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and "tensorboard" not in file.parts]
    return {file.relative_to(folder).as_posix(): readable(file) for file in files}


def readable(file: Path) -> Any:
    """The content of a file, or why it cannot be read; None for a temporary file, which may be cut off."""
    try:
        return None if file.name.startswith(".") else content(file)
    except Exception as error:  # json, csv, zipfile, NumPy and safetensors raise a dozen kinds of exceptions
        return f"cannot be read: {error}"


def content(file: Path) -> Any:
    """The content of a file, without times and sums."""
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
    """The text parsed as JSON if it is JSON; None if it is a SHA-256, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return None if re.fullmatch("[0-9a-f]{64}", text) else text


def timeless(value: Any) -> Any:
    """The value without its entries for times and sums."""
    if isinstance(value, Mapping):
        return {key: timeless(each) for key, each in value.items() if not TIMES.search(key)}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """The first difference between two results; empty if there is none."""
    if missing := sorted(expected.keys() - found.keys()):
        return f"missing: {', '.join(missing[:3])}"
    if other := [name for name in expected if expected[name] != found[name]]:
        return f"other content: {', '.join(other[:3])}"
    left = sorted(found.keys() - expected.keys())
    return f"left behind: {', '.join(left[:3])}" if left else ""
