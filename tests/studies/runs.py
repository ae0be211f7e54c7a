"""Runs of geo3d's commands, each in a process and a folder of its own; a finished one is not run again."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from geo3d.errors import ConfigError


def metrics(command: str, out: Path, *words: str) -> dict[str, Any]:
    """What ``metrics.json`` of one command holds. An interrupted run continues where it was.

    Raises:
        ConfigError: If the command fails; it has said why.
    """
    if not (out / "finished.json").exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        line = [command, *words, f"out={out}"]
        print("geo3d", *line, flush=True)
        with out.with_suffix(".log").open("a") as log:
            code = subprocess.run([sys.executable, "-m", "geo3d", *line], stdout=log, stderr=log).returncode
        if code:
            raise ConfigError(
                f"{out.with_suffix('.log')}: geo3d {command} ended with status {code}; read its last lines"
            )
    return json.loads((out / "metrics.json").read_text())  # type: ignore[no-any-return]


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
