"""The run folder: what was run, on what, with which versions, and what came out."""

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import geo3d
from geo3d.errors import ConfigError
from geo3d.io.files import write_json

PACKAGES = ("torch", "torch-geometric", "pytorch-lightning", "numpy", "scipy", "scikit-learn", "h5py", "safetensors")


def start_run(out: str | Path, manifest: dict[str, Any], settings: dict[str, Any] | None = None) -> Path:
    """The run folder ``out`` with ``versions.json``, ``manifest.json`` and ``settings.json`` written.

    Args:
        out: Made if it is not there.
        manifest: Which samples the run sees (JSON-able).
        settings: What else decides the run's numbers (JSON-able).

    Raises:
        ConfigError: If ``out`` is no folder, or holds a run on other data or with other settings.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out={out}: expected a folder, found a file; give another out=DIR")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={out}: the folder cannot be made ({error.strerror}); give another out=DIR") from None
    for what, path, content in (
        ("on other data", out / "manifest.json", manifest),
        ("with other settings", out / "settings.json", settings or {}),
    ):
        if path.exists() and to_lose(out) and stored(path) != json.loads(json.dumps(content)):
            raise ConfigError(f"out={out}: holds a run {what} (see {path.name}); give another out=DIR")
    write_json(out / "manifest.json", manifest)
    write_json(out / "settings.json", settings or {})
    write_json(out / "versions.json", versions())
    return out


def to_lose(out: Path) -> bool:
    """Whether a run folder holds results; one in which a run failed before its first checkpoint does not."""
    return any((out / name).exists() for name in ("checkpoints/last.ckpt", "encoder", "metrics.json"))


def stored(path: Path) -> Any:
    """The content of a JSON file of a run folder.

    Raises:
        ConfigError: If it is no JSON.
    """
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: damaged ({error}); delete it, or give another out=DIR") from None


def versions() -> dict[str, Any]:
    """Versions of geo3d, Python and what geo3d stands on, and the git commit of a checkout."""
    found: dict[str, Any] = {"geo3d": geo3d.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        found[package] = metadata.version(package)
    found["git"] = git_commit()
    return found


def git_commit() -> str | None:
    """The commit of the checkout that geo3d is run from, with ``+`` behind it if files differ; None elsewhere."""
    root = Path(geo3d.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if dirty.stdout.strip() else "")
