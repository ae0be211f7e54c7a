"""The table a probe prints: floor | result | ceiling."""

import textwrap
from collections.abc import Mapping
from typing import Any

from geo3d.errors import ConfigError

COLUMNS = ("probe", "floor (untrained)", "result", "ceiling", "gain +- s.e.", "fraction")
WIDEST = 22
"""Most characters of a probe's name on a line, which keeps the table within 100 columns."""


def percent(summary: Mapping[str, Any] | None) -> str:
    """A summary of accuracies in percent: mean +- std, or only the mean of a single value.

    Example:
        >>> percent({"mean": 0.9, "std": 0.0125}), percent({"mean": 0.9, "std": None}), percent(None)
        ('90.0 +- 1.2', '90.0', 'not asked')
    """
    if summary is None:
        return "not asked"
    mean = f"{100 * summary['mean']:.1f}"
    return mean if summary["std"] is None else f"{mean} +- {100 * summary['std']:.1f}"


def lines_of(name: str, record: Mapping[str, Any]) -> list[list[str]]:
    """The cells of one probe: its row, and for a long name further rows with the rest of the name."""
    gain, error, fraction = record["gain"]["mean"], record["gain"]["standard_error"], record["fraction"]
    numbers = [
        percent(record["floor"]),
        percent(record["result"]),
        percent(record["ceiling"]),
        f"{100 * gain:+.1f}" + ("" if error is None else f" +- {100 * error:.1f}"),
        "-" if fraction is None else f"{100 * fraction:.0f} %",
    ]
    first, *others = textwrap.wrap(name, WIDEST) or [""]
    return [[first, *numbers], *([other] + [""] * len(numbers) for other in others)]


def render(rows: Mapping[str, Mapping[str, Any]], title: str = "", unit: str = "accuracy in percent") -> str:
    """A plain-text table, at most 100 columns wide, of percentages.

    Args:
        rows: Name of the probe -> its record from ``geo3d.probes.compare``.
        title: Printed above.
        unit: What the numbers are, printed below.

    Raises:
        ConfigError: If there are no rows.
    """
    if not rows:
        raise ConfigError("there is no probe to show; run at least one")
    table = [list(COLUMNS)] + [line for name, record in rows.items() for line in lines_of(name, record)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [
        " | ".join([row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]).rstrip()
        for row in table
    ]
    lines.insert(1, "-+-".join("-" * width for width in widths))
    most = max(record["result"]["count"] for record in rows.values())
    note = unit + (f", mean +- std of {most} runs" if most > 1 else "")
    note += "; ceiling: the same encoder with labels"
    return "\n".join(([title] if title else []) + lines + [note])
