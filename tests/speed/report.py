"""The text that ``python -m speed`` prints: the machine, its limits, and one table per case."""

from collections.abc import Mapping, Sequence
from typing import Any

from speed.roofline import Roofline

from geo3d.bench.stages import written

COLUMNS = ("", "median ms", "min ms", "ratio", "difference", "clouds/s", "MB/cloud", "GFLOP/s", "of limit")


def heading(machine: Mapping[str, Any], limits: Roofline) -> str:
    """The machine and its limits, one line each."""
    width = max(map(len, machine)) + 2
    lines = [f"{name:<{width}}{value}" for name, value in machine.items()]
    rates = ", ".join(f"{rate:.0f} at {size}" for size, rate in limits.gflops.items())
    lines.append(f"{'products':<{width}}GFLOP/s in float32: {rates}")
    lines.append(f"{'copying':<{width}}{limits.copy:.1f} GB/s, read and written")
    return "\n".join(lines)


def table(record: Mapping[str, Any]) -> str:
    """One case as plain text; the ratio is how many times faster than the reference.

    A contender whose outputs differ has no ratio.
    """
    cells = [list(COLUMNS), *(_cells(row) for row in record["rows"])]
    kept = [i for i in range(len(COLUMNS)) if i < 3 or any(line[i] for line in cells[1:])]
    lines = ["", record["title"], *aligned([[line[i] for i in kept] for line in cells])]
    for row in record["rows"]:
        if row["stages"]:
            lines.append(f"  {row['name']}: {written(row['stages'])}")
    lines += [f"  {line}" for line in [*_checked(record["rows"]), *record["notes"]]]
    return "\n".join(lines)


def _checked(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each quantity that was compared, with the difference of each contender and what is allowed."""
    verdicts_of: dict[str, list[str]] = {}
    for row in rows:
        for check in row["checks"]:
            verdict = f"{row['name']} {check['found']:.2g}"
            if not check["found"] <= check["allowed"]:
                verdict += f" where {check['allowed']:.2g} is allowed: NOT EQUAL, no ratio"
            verdicts_of.setdefault(check["what"], []).append(verdict)
    alone = [row["name"] for row in rows if not row["compared"]]
    lines = [f"{what}: {'; '.join(verdicts)}" for what, verdicts in verdicts_of.items()]
    return lines + ([f"* not compared: {', '.join(alone)}"] if alone else [])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    r"""Lines of a table with a heading; the first column is aligned left, the others right.

    Example:
        >>> print("\n".join(aligned([["", "ms"], ["geo3d", "1.5"], ["PyG", "20.0"]])))
              |   ms
        ------+-----
        geo3d |  1.5
        PyG   | 20.0
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        " | ".join([row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]).rstrip()
        for row in rows
    ]
    return [lines[0], "-+-".join("-" * width for width in widths), *lines[1:]]


def _cells(row: Mapping[str, Any]) -> list[str]:
    first = row["checks"][0]["found"] if row["checks"] else None
    speed = f"{row['ratio'] or 0:.2f}x" + ("" if row["compared"] else " *")
    share = row["share_of_limit"]
    return [
        row["name"],
        f"{row['median_ms']:.3g}" if row["median_ms"] < 100 else f"{row['median_ms']:.0f}",
        f"{row['min_ms']:.3g}" if row["min_ms"] < 100 else f"{row['min_ms']:.0f}",
        speed if row["equal"] else "differs",
        "" if first is None else f"{first:.1e}",
        f"{row['clouds_per_second']:.{0 if row['clouds_per_second'] >= 100 else 1}f}",
        "" if row["peak_mb_per_cloud"] is None else f"{row['peak_mb_per_cloud']:.1f}",
        "" if row["gflops"] is None else f"{row['gflops']:.1f}",
        "" if share is None else f"{100 * share:.0f} %",
    ]
