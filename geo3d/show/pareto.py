"""Accuracy against time of trained encoders, with their Pareto front, as a PNG file."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import Bbox

from geo3d.errors import ConfigError
from geo3d.show.curves import FAINT, INK, QUIET, SERIES, heading, panel, save

KINDS = {
    "float": ("o", SERIES[0]),
    "quantised": ("s", SERIES[1]),
    "structured": ("^", SERIES[2]),
    "pruned": ("D", SERIES[3]),
    "combined": ("*", SERIES[4]),
    "adaptive": ("v", "#12858f"),
}
"""Kind of an encoder -> its marker and colour."""
SIZES = {"*": 130.0, "D": 38.0}
LINE = "#57606a"
LONGEST, TITLE = 26, 105
"""Most characters on a line of a label, and on a line of the title."""
AROUND = [(r * np.cos(a), r * np.sin(a)) for r in (9.0, 15.0, 24.0, 36.0, 50.0) for a in np.deg2rad(
    (45, 135, 315, 225, 0, 180, 90, 270, 20, 160, 340, 200))]  # fmt: skip
"""Offsets of a label from its marker, in points; the least crowded one is taken, and of several the first."""


def front(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Indices of the Pareto front, fastest first: rows that beat every faster row in ``accuracy``.

    Of rows with equal ``ms`` the most accurate counts, and of equal rows the first.

    Example:
        >>> front([{"ms": 2.0, "accuracy": 0.9}, {"ms": 1.0, "accuracy": 0.8}, {"ms": 3.0, "accuracy": 0.85}])
        [1, 0]
    """
    best, indices = -np.inf, []
    for i in sorted(range(len(rows)), key=lambda i: (rows[i]["ms"], -rows[i]["accuracy"])):
        if rows[i]["accuracy"] > best:
            indices.append(i)
            best = rows[i]["accuracy"]
    return indices


def shared(names: Sequence[str]) -> tuple[str, list[str]]:
    """The common beginning of all names, up to a comma, and the names without it, so that a picture shows it once.

    Example:
        >>> shared(["DGCNN, float", "DGCNN, half width, W4A8"])
        ('DGCNN', ['float', 'half width, W4A8'])
        >>> shared(["DGCNN, float"]), shared(["a", "a, b"])
        (('', ['DGCNN, float']), ('', ['a', 'a, b']))
    """
    parts = [name.split(", ") for name in names]
    alike = [each[0] for each in takewhile(lambda each: len(set(each)) == 1, zip(*parts, strict=False))]
    alike = alike[: min(map(len, parts)) - 1] if len(names) > 1 else []
    return ", ".join(alike), [", ".join(each[len(alike) :]) for each in parts]


def plot_pareto(
    rows: Sequence[Mapping[str, Any]],
    path: str | Path,
    *,
    title: str = "accuracy (%)",
    axis: str = "milliseconds a cloud",
    also: Mapping[str, float] | None = None,
) -> Path:
    """The path of a PNG (1200 x 800) with accuracy in percent against time, on a logarithmic axis.

    Args:
        rows: One per encoder: ``name``, ``kind`` (one of ``KINDS``), ``ms``, ``accuracy`` (0 to 1), and if known
            ``error``, half the length of its error bar (0 to 1). The title begins with what all names begin with.
        path: Where to write.
        title: Drawn above.
        axis: Label of the time axis.
        also: Name -> milliseconds of things without an accuracy, drawn as vertical dashed lines, or noted at the edge
            if they lie beyond the axis.

    Raises:
        ConfigError: If there are no rows, a kind is unknown, or a time is not above 0.
    """
    if not rows:
        raise ConfigError("there is no encoder with an accuracy and a time to draw; give data to score on")
    for row in rows:
        if row["kind"] not in KINDS:
            raise ConfigError(f"{row['name']}: no kind {row['kind']!r}; there are {', '.join(KINDS)}")
        if not row["ms"] > 0:
            raise ConfigError(f"{row['name']}: time must be above 0, found {row['ms']} ms")
    common, names = shared([row["name"] for row in rows])
    rows = [{**row, "name": _lines(name)} for row, name in zip(rows, names, strict=True)]
    figure, (ax,) = panel(8, 16 / 3)
    ax.set_xscale("log")
    ax.grid(axis="x", color=FAINT, linewidth=0.8)
    _points(ax, rows)
    best = front(rows)
    x, y = ([rows[i][key] for i in best] for key in ("ms", "accuracy"))
    label = "none is both faster and better"
    ax.step(x, 100 * np.array(y), where="post", color=LINE, linewidth=1.3, zorder=2, label=label)
    _limits(ax, rows, also or {})
    for i, (name, ms) in enumerate((also or {}).items()):
        _upright(ax, name, ms, i)
    ax.set_xlabel(axis, fontsize=9, color=INK)
    heading(ax, textwrap.fill(f"{common}: {title}" if common else title, TITLE))
    figure.legend(loc="outside lower center", ncols=7, frameon=False, fontsize=8, labelcolor=INK, handletextpad=0.4,
                  columnspacing=1.4)  # fmt: skip
    figure.canvas.draw()  # the places of the points are known only after this
    _labels(ax, rows, best)
    return save(figure, path)


def _lines(name: str) -> str:
    """The name, wrapped to the lines of a label; ``k = 12`` stays on one line."""
    return textwrap.fill(name.replace(" = ", "\u00a0=\u00a0"), LONGEST)


def _points(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for kind, (marker, colour) in KINDS.items():
        own = [row for row in rows if row["kind"] == kind]
        if not own:
            continue
        x, y = [row["ms"] for row in own], [100 * row["accuracy"] for row in own]
        bars = [100 * (row.get("error") or 0.0) for row in own]
        if any(bars):
            ax.errorbar(x, y, bars, fmt="none", ecolor=colour, elinewidth=1, capsize=2.5, alpha=0.6, zorder=3)
        ax.scatter(x, y, s=SIZES.get(marker, 46.0), marker=marker, color=colour, edgecolor="white", linewidth=0.8,
                   zorder=4, label=kind)  # fmt: skip


def _limits(ax: Axes, rows: Sequence[Mapping[str, Any]], also: Mapping[str, float]) -> None:
    """Set the limits, with room for labels on all sides, and ticks that are readable even on a short axis."""
    times = [row["ms"] for row in rows]
    times += [ms for ms in also.values() if min(times) / 2 < ms < 2 * max(times)]
    margin = 0.13 * np.log(max(times) / min(times)) + (0.15 if max(times) > 2 * min(times) else 0.9)
    ax.set_xlim(min(times) * np.exp(-margin), max(times) * np.exp(margin))
    high = max(row["accuracy"] + (row.get("error") or 0.0) for row in rows)
    low = min(row["accuracy"] - (row.get("error") or 0.0) for row in rows)
    room = max(0.14 * (high - low), 0.005)
    ax.set_ylim(100 * (low - room), 100 * (high + room))
    decades = np.log10(ax.get_xlim()[1] / ax.get_xlim()[0])
    subs = (1, 2, 3, 5, 7) if decades < 1.2 else (1, 2, 5) if decades < 3.5 else (1,)
    ax.xaxis.set_major_locator(LogLocator(subs=subs))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())


def _upright(ax: Axes, name: str, ms: float, line: int) -> None:
    """Draw a vertical dashed line at a time, or a note at the nearer edge if the axis does not reach it."""
    left, right = ax.get_xlim()
    if left < ms < right:
        ax.axvline(ms, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        ax.annotate(name, (ms, 0.03), xycoords=("data", "axes fraction"), xytext=(-4, 0), textcoords="offset points",
                    rotation=90, ha="right", va="bottom", fontsize=7.5, color=QUIET)  # fmt: skip
        return
    text = f"{name}: {ms:.3g} ms \u2192" if ms > left else f"\u2190 {name}: {ms:.3g} ms"
    at, side = (1.0, "right") if ms > left else (0.0, "left")
    where = (at, 0.02 + 0.04 * line)
    ax.annotate(text, where, xycoords="axes fraction", ha=side, va="bottom", fontsize=7.5, color=QUIET)


def _labels(ax: Axes, rows: Sequence[Mapping[str, Any]], best: list[int]) -> None:
    """Write a name beside each point, the front first, where there is most room; distant names get a thin line."""
    scale = ax.figure.dpi / 72
    at = [ax.transData.transform((row["ms"], 100 * row["accuracy"])) for row in rows]
    taken = _drawn(ax, rows, at, best, scale)
    frame = ax.get_window_extent()
    for i in sorted(range(len(rows)), key=lambda i: i not in best):
        text = ax.annotate(rows[i]["name"], (rows[i]["ms"], 100 * rows[i]["accuracy"]), xytext=(0, 0),
                           textcoords="offset points", ha="left", va="center", fontsize=7.5, zorder=5,
                           color=INK if i in best else QUIET)  # fmt: skip
        size = text.get_window_extent()
        places = [_place(at[i], dx * scale, dy * scale, size.width, size.height) for dx, dy in AROUND]
        crowded = [sum(_shared(box, other) for other in taken) + 4 * _outside(box, frame) for box in places]
        chosen = int(np.argmin(crowded))  # the first of the least crowded
        box = places[chosen]
        text.set_position(((box.x0 - at[i][0]) / scale, ((box.y0 + box.y1) / 2 - at[i][1]) / scale))
        if np.hypot(*AROUND[chosen]) > 20:
            near = (np.clip(at[i][0], box.x0, box.x1), np.clip(at[i][1], box.y0, box.y1))
            ends = ax.transData.inverted().transform(np.array([at[i], near]))
            ax.plot(*ends.T, color=QUIET, linewidth=0.5, alpha=0.7, zorder=2.5)
        taken.append(box)


def _drawn(ax: Axes, rows: Sequence[Mapping[str, Any]], at: Any, best: list[int], scale: float) -> list[Bbox]:
    """Boxes around the markers, the error bars and the segments of the front."""
    boxes = [Bbox.from_bounds(x - 5 * scale, y - 5 * scale, 10 * scale, 10 * scale) for x, y in at]
    for row, (x, y) in zip(rows, at, strict=True):
        half = ax.transData.transform((row["ms"], 100 * (row["accuracy"] + (row.get("error") or 0.0))))[1] - y
        boxes.append(Bbox.from_bounds(x - 2 * scale, y - half, 4 * scale, 2 * half))
    for (x0, y0), (x1, y1) in pairwise(at[i] for i in best):
        boxes.append(Bbox.from_bounds(x0, y0 - scale, x1 - x0, 2 * scale))
        boxes.append(Bbox.from_bounds(x1 - scale, y0, 2 * scale, y1 - y0))
    return boxes


def _place(at: Any, dx: float, dy: float, width: float, height: float) -> Bbox:
    """The box of a label: its near side (its middle if dx is about 0) lies dx from the point, its centre dy above."""
    x = at[0] + dx - width * (0.0 if dx > 0.1 else 1.0 if dx < -0.1 else 0.5)
    return Bbox.from_bounds(x, at[1] + dy - height / 2, width, height)


def _shared(a: Bbox, b: Bbox) -> float:
    """The area that two boxes share."""
    return max(0.0, min(a.x1, b.x1) - max(a.x0, b.x0)) * max(0.0, min(a.y1, b.y1) - max(a.y0, b.y0))


def _outside(box: Bbox, frame: Bbox) -> float:
    """The area of a box that lies outside of the frame."""
    return box.width * box.height - _shared(box, frame)
