"""A scene as one HTML page without network: panes that turn together, and a label for the point under the mouse."""

import base64
import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from geo3d.io.files import replacing
from geo3d.show.scene import Coloring, Lines, Pane, Points, Scene, thinned

LARGEST = 2_850_000
"""Bytes of the arrays in a page, as text; with the program the page stays below 3 MB."""
STEPS = 65_535
"""Coordinates are stored as whole numbers from 0 to this within the box of their points."""


def write_page(scene: Scene, path: str | Path, title: str = "geo3d") -> Path:
    """The path of the HTML page.

    A point takes 6 bytes for its place, 3 for a colour, 1 or 2 for the entry of a table. If a page would become larger
    than 3 MB it shows fewer points, and says so.

    Args:
        scene: What is drawn.
        path: Where to write; the file appears only when it is complete.
        title: Of the page.
    """
    scene = _small(scene)
    arrays = bytearray()
    panes = [_pane(pane, arrays) for pane in scene.panes]
    described = {
        "columns": scene.columns or len(scene.panes),
        "camera": scene.camera._asdict(),
        "notes": scene.notes,
        "axes": scene.axes,
        "panes": panes,
        "boxes": [_box(pane) for pane in scene.panes if len(pane.everything())],
    }
    fields = {
        "title": html.escape(title),
        "scene": json.dumps(described, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
        "arrays": base64.b64encode(arrays).decode("ascii"),
    }
    with replacing(path) as draft:
        draft.write_text(_filled(fields), encoding="utf-8")
    return Path(path)


def _filled(fields: Mapping[str, str]) -> str:
    """The page with its fields; their values are not searched for further fields."""
    page = files("geo3d.show").joinpath("viewer.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: fields[match[1]], page)


def _small(scene: Scene) -> Scene:
    """The same scene, or one with fewer points whose page is small enough, and a note."""
    cost = sum(len(each.pos) * _bytes(each) for pane in scene.panes for each in pane.points) * 4 / 3
    if cost <= LARGEST:
        return scene
    count = sum(len(each.pos) for pane in scene.panes for each in pane.points)
    cost += count * 2 * 4 / 3  # the numbers of the points that are left
    panes = tuple(
        pane._replace(points=tuple(_fewer(each, LARGEST / cost) for each in pane.points)) for pane in scene.panes
    )
    left = sum(len(each.pos) for pane in panes for each in pane.points)
    return scene._replace(panes=panes, notes=(*scene.notes, f"This page shows {left:,} of {count:,} points."))


def _bytes(points: Points) -> int:
    """Bytes of a point."""
    numbers = 0 if points.numbers is None else 2
    return 6 + numbers + sum(3 if each.table is None else 1 + (len(each.table) > 256) for each in points.colorings)


def _fewer(points: Points, fraction: float) -> Points:
    """This fraction of the points."""
    kept = thinned(len(points.pos), max(1, int(fraction * len(points.pos))))
    if kept is None or points.on_top:
        return points
    numbers = kept if points.numbers is None else points.numbers[kept]
    colorings = tuple(each._replace(values=each.values[kept]) for each in points.colorings)
    return points._replace(pos=points.pos[kept], colorings=colorings, numbers=numbers)


def _stored(array: np.ndarray, arrays: bytearray) -> int:
    """Where the array begins in ``arrays``, to which it is added; a multiple of four, as browsers demand."""
    arrays += bytes(-len(arrays) % 4)
    start = len(arrays)
    arrays += np.ascontiguousarray(array).tobytes()
    return start


def _pane(pane: Pane, arrays: bytearray) -> dict[str, Any]:
    return {
        "title": pane.title,
        "points": [_points(each, arrays) for each in pane.points if len(each.pos)],
        "lines": [_lines(each) for each in pane.lines],
        "texts": [each._asdict() for each in pane.texts],
    }


def _points(points: Points, arrays: bytearray) -> dict[str, Any]:
    pos = np.asarray(points.pos, dtype=np.float64)
    low, span = pos.min(0), np.ptp(pos, axis=0)
    steps = (STEPS * (pos - low) / np.where(span > 0, span, 1)).round().astype("<u2")
    described = {
        "count": len(pos), "low": low.tolist(), "span": span.tolist(), "pos": _stored(steps, arrays),
        "scale": points.scale, "top": points.on_top, "name": points.name, "numbers": None, "numbersWide": False,
    }  # fmt: skip
    if points.numbers is not None:
        gaps = np.diff(points.numbers, prepend=0)
        wide = bool(gaps.max() > STEPS)
        described |= {"numbers": _stored(gaps.astype("<u4" if wide else "<u2"), arrays), "numbersWide": wide}
    return described | {"colorings": [_coloring(each, arrays) for each in points.colorings]}


def _coloring(coloring: Coloring, arrays: bytearray) -> dict[str, Any]:
    described: dict[str, Any] = {"name": coloring.name, "names": coloring.names, "limits": coloring.limits}
    if coloring.table is None:
        return described | {"start": _stored(coloring.values.astype(np.uint8), arrays), "table": None, "wide": False}
    wide = len(coloring.table) > 256
    return described | {
        "start": _stored(coloring.values.astype("<u2" if wide else np.uint8), arrays),
        "wide": wide,
        "table": [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in coloring.table.tolist()],
        "occurring": np.unique(coloring.values).tolist() if coloring.names else [],
    }


def _lines(lines: Lines) -> dict[str, Any]:
    ends = [float(f"{each:.6g}") for each in np.asarray(lines.ends, dtype=np.float64).ravel().tolist()]
    return {"ends": ends, "color": lines.color, "top": lines.on_top}


def _box(pane: Pane) -> list[list[float]]:
    """Lowest and highest coordinates of what a pane shows."""
    pos = pane.everything()
    return [pos.min(0).tolist(), pos.max(0).tolist()]
