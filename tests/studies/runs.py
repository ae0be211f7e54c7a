"""Runs of geo3d's commands, each in a process and a folder of its own; a finished one is not run again."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geo3d.errors import ConfigError
from geo3d.io.files import replacing


def metrics(command: str, out: Path, *words: str) -> dict[str, Any]:
    """What ``metrics.json`` of one command holds. An interrupted run continues where it was.

    Raises:
        ConfigError: If the command fails; it has said why. If the folder holds a run of other words.
    """
    remembered(out.with_name(f"{out.name}.words"), [command, *words])
    log_file = out.with_name(f"{out.name}.log")
    if not (out / "finished.json").exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        line = [command, *words, f"out={out}"]
        print("geo3d", *line, flush=True)
        with log_file.open("a") as log:
            code = subprocess.run([sys.executable, "-m", "geo3d", *line], stdout=log, stderr=log).returncode
        if code:
            raise ConfigError(f"{log_file}: geo3d {command} ended with status {code}; read its last lines")
    return json.loads((out / "metrics.json").read_text())  # type: ignore[no-any-return]


def remembered(file: Path, words: Sequence[str]) -> None:
    """Note with which words something is made, or check that it was made with these.

    Raises:
        ConfigError: If it was made with others.
    """
    if file.exists():
        before = file.read_text().splitlines()
        if before != list(words):
            new, old = ([word for word in a if word not in b] for a, b in ((words, before), (before, words)))
            raise ConfigError(
                f"{file}: made with {' '.join(old)} instead of {' '.join(new)}; give another folder as out"
            )
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as draft:
        draft.write_text("\n".join(words) + "\n")


def spread(values: list[float], digits: int = 1) -> str:
    """Mean and standard error of values, as text; a single value stands alone.

    Example:
        >>> spread([1.0, 2.0, 3.0]), spread([4.0])
        ('2.0 +- 0.6', '4.0')
    """
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.{digits}f}"
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return f"{mean:.{digits}f} +- {(variance / len(values)) ** 0.5:.{digits}f}"
