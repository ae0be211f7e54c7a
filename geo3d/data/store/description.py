"""What a store says of itself: ``plan.json`` before the first shard is written, ``store.json`` after the last."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geo3d.data.targets import Classes, Joints, Target
from geo3d.errors import CloudError, ConfigError
from geo3d.io.files import existing_folder, read_bytes

FORMAT = 1
PLAN, STORE = "plan.json", "store.json"
KINDS: dict[str, type[Classes] | type[Joints]] = {"Classes": Classes, "Joints": Joints}


def targets_as_json(targets: Mapping[str, Target]) -> dict[str, Any]:
    """The targets as JSON types: the kind of each, and its fields."""
    return {name: {"kind": type(target).__name__, **target._asdict()} for name, target in targets.items()}


def targets_from_json(stored: Mapping[str, Any]) -> dict[str, Target]:
    """The targets of a store, of the types that a data set declares.

    Example:
        >>> targets = {"y": Classes(("cup", "lamp"))}
        >>> targets_from_json(targets_as_json(targets)) == targets
        True
    """
    return {
        name: KINDS[each["kind"]](**{key: _tuples(value) for key, value in each.items() if key != "kind"})
        for name, each in stored.items()
    }


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def read_store(root: str | Path) -> dict[str, Any]:
    """The content of ``store.json``.

    Raises:
        CloudError: If the folder is no store, the store is unfinished, of a newer format, or the file is damaged.
    """
    folder = existing_folder(root, "a store, as geo3d data prepare makes it")
    path = folder / STORE
    if not path.exists() and (folder / PLAN).exists():
        raise CloudError(f"{folder}: the store is not finished; run the same geo3d data prepare again")
    if not path.exists():
        raise CloudError(f"{folder}: expected a store with {STORE}, found none; make it by geo3d data prepare")
    stored = read_object(path)
    if stored.get("format") != FORMAT:
        newer = isinstance(stored.get("format"), int) and stored["format"] > FORMAT
        cure = "update geo3d" if newer else "prepare it again"
        raise CloudError(f"{path}: expected a store of format {FORMAT}, found {stored.get('format')!r:.40}; {cure}")
    return stored


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        CloudError: If the file is missing or damaged.
    """
    try:
        content = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise CloudError(f"{path}: damaged or cut off: {str(error)[:100]}; prepare the store again") from error
    if not isinstance(content, dict):
        raise CloudError(f"{path}: expected a JSON object, found a {type(content).__name__}; prepare the store again")
    return content


def check_same_plan(out: Path, plan: Mapping[str, Any]) -> None:
    """Check that a folder is free for a plan: empty, or with an unfinished or finished store of the same plan.

    Raises:
        ConfigError: If it holds something else.
    """
    if not out.is_dir():
        return
    if not (out / PLAN).exists():
        others = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
        if others:
            raise ConfigError(
                f"out={out}: expected an empty folder, found {', '.join(others[:5])}; give another out=DIR"
            )
        return
    there, here = flat(read_object(out / PLAN)), flat(json.loads(json.dumps(plan)))
    for key in [*here, *(key for key in there if key not in here)]:
        if (was := there.get(key, "not given")) != (now := here.get(key, "not given")):
            difference = f"{key}: {was!s:.60} there, {now!s:.60} here"
            raise ConfigError(f"out={out}: holds a store of other settings ({difference}); give another out=DIR")


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The same values in one level, with dotted keys.

    Example:
        >>> flat({"options": {"size": 4}, "format": 1})
        {'options.size': 4, 'format': 1}
    """
    rows: dict[str, Any] = {}
    for key, value in content.items():
        rows |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return rows
