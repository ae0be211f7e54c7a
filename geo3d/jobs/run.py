"""The run folder: what was run, on what, with which versions, and what came out."""

import hashlib
import json
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import geo3d
from geo3d.checkpoint import CARD, HEAD, WEIGHTS
from geo3d.errors import ConfigError
from geo3d.io.files import write_json
from geo3d.io.owner import made, owned, sweep
from geo3d.version import commit

PACKAGES = ("torch", "torch-geometric", "pytorch-lightning", "numpy", "scipy", "scikit-learn", "h5py", "safetensors")
FINISHED = "finished.json"
RESULTS = ("metrics.json", "metrics.csv", "test.npz", "features.npz", *(f"encoder/{x}" for x in (WEIGHTS, CARD, HEAD)))
"""Files whose sums say that a run is finished and whole, where it makes them."""
PARTS = ("checkpoints", "encoder", "shape", "shape/checkpoints", "shape/encoder")
"""Folders in a run folder that belong to the same run."""


@contextmanager
def run_folder(
    out: str | Path, manifest: dict[str, Any], settings: dict[str, Any] | None = None, reopen: bool = True
) -> Iterator[Path]:
    """The run folder ``out``, owned by this process inside the block, with what :func:`start_run` writes.

    What killed processes left half-written in it is removed.

    Args:
        out: Made if it is not there.
        manifest: See :func:`start_run`.
        settings: See :func:`start_run`.
        reopen: Whether results of a finished run are about to be written again.

    Raises:
        ConfigError: As :func:`start_run`, or if another process works in ``out``.
    """
    if torch.get_default_dtype() is not torch.float32:
        raise ConfigError(
            f"torch's default dtype is {torch.get_default_dtype()}; clouds are float32, and so must weights be; call "
            "torch.set_default_dtype(torch.float32) before encoders are made"
        )
    with owned(out) as folder:
        for place in (folder, *(folder / name for name in PARTS)):
            sweep(place)
        start_run(folder, manifest, settings)
        if reopen:
            reopen_run(folder)
        yield folder


def start_run(out: str | Path, manifest: dict[str, Any], settings: dict[str, Any] | None = None) -> Path:
    """The folder ``out`` with ``versions.json``, ``manifest.json`` and ``settings.json`` written.

    Args:
        out: Made if it is not there.
        manifest: Which samples the run sees (JSON-able).
        settings: What else decides the run's numbers (JSON-able).

    Raises:
        ConfigError: If ``out`` is no folder, or holds a run on other data or with other settings.
    """
    out = made(out)
    for what, path, content in (
        ("on other data", out / "manifest.json", manifest),
        ("with other settings", out / "settings.json", settings or {}),
    ):
        if not to_lose(out):
            break
        if not path.exists():
            raise ConfigError(f"out={out}: holds results, but no {path.name} says of what; give another out=DIR")
        if stored(path) != json.loads(json.dumps(content)):
            raise ConfigError(f"out={out}: holds a run {what} (see {path.name}); give another out=DIR")
    write_json(out / "manifest.json", manifest)
    write_json(out / "settings.json", settings or {})
    write_json(out / "versions.json", versions())
    return out


def finish_run(out: Path, metrics: dict[str, Any]) -> None:
    """Write ``metrics.json`` and, last of all, ``finished.json``: the sums of everything that the run has made."""
    write_json(out / "metrics.json", metrics)
    write_json(out / FINISHED, {"sha256": {name: sum_of(out / name) for name in RESULTS if (out / name).is_file()}})


def is_finished(out: Path) -> bool:
    """Whether the run in ``out`` has been finished and all its results are as they were then.

    Otherwise the job makes them again, from its last checkpoint; damaged results are said.
    """
    try:
        sums = json.loads((out / FINISHED).read_text(encoding="utf-8"))["sha256"]
        changed = [name for name in sums if not (out / name).is_file() or sum_of(out / name) != sums[name]]
        missing = [name for name in RESULTS[:1] if name not in sums]
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        changed, missing = [FINISHED], []
    if changed or missing:
        warnings.warn(f"{out / (changed + missing)[0]}: damaged or missing; it is made again", stacklevel=2)
    return not changed and not missing


def reopen_run(out: Path) -> None:
    """Take back that the run has been finished: its results are about to be written again."""
    (out / FINISHED).unlink(missing_ok=True)


def sum_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def to_lose(out: Path) -> bool:
    """Whether a run folder holds results; one in which a run failed before its first checkpoint does not."""
    return any((out / name).exists() for name in ("checkpoints/last.ckpt", "encoder", "metrics.json"))


def stored(path: Path) -> Any:
    """The content of a JSON file of a run folder.

    Raises:
        ConfigError: If it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: damaged ({error}); delete it, or give another out=DIR") from None


def versions() -> dict[str, Any]:
    """Versions of geo3d, Python and what geo3d stands on, and the git commit of a checkout."""
    found: dict[str, Any] = {"geo3d": geo3d.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        found[package] = metadata.version(package)
    found["git"] = commit()
    return found
