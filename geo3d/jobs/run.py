"""The run folder: data, settings and versions of a run, and its results."""

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
from geo3d.checkpoint import CARD, DECODER, HEAD, WEIGHTS
from geo3d.errors import ConfigError
from geo3d.io.files import write_json
from geo3d.io.owner import made, owned, sweep
from geo3d.version import commit

PACKAGES = ("torch", "torch-geometric", "pytorch-lightning", "numpy", "scipy", "scikit-learn", "h5py", "safetensors")
FINISHED = "finished.json"
SAVED = tuple(f"encoder/{file}" for file in (WEIGHTS, CARD, HEAD, DECODER))
RESULTS = ("metrics.json", "metrics.csv", "test.npz", "features.npz", *SAVED)
"""Files whose SHA-256 sums ``finished.json`` records, if the run writes them."""
PARTS = ("checkpoints", "encoder", "shape", "shape/checkpoints", "shape/encoder")
"""Folders in a run folder that belong to the same run."""


def check_dtype() -> None:
    """Check that torch makes float32 tensors.

    Raises:
        ConfigError: If its default dtype is another.
    """
    if torch.get_default_dtype() is not torch.float32:
        raise ConfigError(
            f"torch's default dtype is {torch.get_default_dtype()}; clouds and weights must be float32; call "
            "torch.set_default_dtype(torch.float32) before you build an encoder"
        )


@contextmanager
def run_folder(
    out: str | Path, manifest: dict[str, Any], settings: dict[str, Any] | None = None, reopen: bool = True
) -> Iterator[Path]:
    """The run folder ``out``, owned by this process inside the block, with the files that :func:`start_run` writes.

    Half-written files that killed processes left in it are removed.

    Args:
        out: Created if it does not exist.
        manifest: See :func:`start_run`.
        settings: See :func:`start_run`.
        reopen: Mark the run as unfinished, because its results are about to be written again.

    Raises:
        ConfigError: For the reasons of :func:`start_run`, if another process works in ``out``, or if torch's default
            dtype is not float32.
    """
    check_dtype()
    with owned(out) as folder:
        for place in (folder, *(folder / name for name in PARTS)):
            sweep(place)
        start_run(folder, manifest, settings)
        if reopen:
            reopen_run(folder)
        yield folder


def start_run(out: str | Path, manifest: dict[str, Any], settings: dict[str, Any] | None = None) -> Path:
    """The folder ``out``, after ``versions.json``, ``manifest.json`` and ``settings.json`` have been written there.

    Args:
        out: Created if it does not exist.
        manifest: The samples that the run sees (JSON-able).
        settings: Everything else that the run's results depend on (JSON-able).

    Raises:
        ConfigError: If ``out`` is not a folder, or holds a run on other data or with other settings.
    """
    out = made(out)
    for what, path, content in (
        ("on other data", out / "manifest.json", manifest),
        ("with other settings", out / "settings.json", settings or {}),
    ):
        if not to_lose(out):
            break
        if not path.exists():
            raise ConfigError(f"out={out}: holds results, but {path.name} is missing; give another out=DIR")
        if stored(path) != json.loads(json.dumps(content)):
            raise ConfigError(f"out={out}: holds a run {what} (see {path.name}); give another out=DIR")
    write_json(out / "manifest.json", manifest)
    write_json(out / "settings.json", settings or {})
    write_json(out / "versions.json", versions())
    return out


def finish_run(out: Path, metrics: dict[str, Any]) -> None:
    """Write ``metrics.json``, and last of all ``finished.json`` with the SHA-256 sums of the run's results."""
    write_json(out / "metrics.json", metrics)
    write_json(out / FINISHED, {"sha256": {name: sum_of(out / name) for name in RESULTS if (out / name).is_file()}})


def is_finished(out: Path) -> bool:
    """Whether the run in ``out`` is finished, and none of its results has changed since.

    If a result is damaged or missing, a warning names it. The job then makes the results again from its last
    checkpoint.
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
    """Mark the run as unfinished, because its results are about to be written again."""
    (out / FINISHED).unlink(missing_ok=True)


def sum_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def to_lose(out: Path) -> bool:
    """Whether a run folder holds a checkpoint, an encoder or metrics, which must not be overwritten."""
    return any((out / name).exists() for name in ("checkpoints/last.ckpt", "encoder", "metrics.json"))


def stored(path: Path) -> Any:
    """The content of a JSON file of a run folder.

    Raises:
        ConfigError: If the file cannot be read, or is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: damaged ({error}); delete it, or give another out=DIR") from None


def versions() -> dict[str, Any]:
    """Versions of geo3d, Python and the packages that results depend on, and the git commit of a checkout."""
    record: dict[str, Any] = {"geo3d": geo3d.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        record[package] = metadata.version(package)
    record["git"] = commit()
    return record
