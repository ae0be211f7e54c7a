"""The scene of the views of one cloud that pretraining compares, with the points that match."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from geo3d.show.scene import Camera, Coloring, Lines, Pane, Points, Scene, Text, camera_around

PAIRS = 40
"""Most matching points that are joined by lines."""
GREY = (150, 156, 163)
APART = 1.15
"""How far the two views stand from each other in the pane that joins them, in their own sizes."""


class Seen(NamedTuple):
    """One view of a cloud."""

    pos: np.ndarray
    """(n, 3)"""
    ids: np.ndarray
    """(n,) the number of each point in the cloud."""


def views_scene(pos: np.ndarray, views: Sequence[Seen], title: str) -> Scene:
    """A scene with the cloud, each view, and the first two views beside each other with matching points joined.

    A point has the same colour everywhere: its place in the cloud, as red, green and blue.

    Args:
        pos: (N, 3) the cloud.
        views: At least two.
        title: Of the cloud.
    """
    extent = np.ptp(pos, axis=0)
    colors = (40 + 200 * (pos - pos.min(0)) / np.where(extent > 0, extent, 1)).round().astype(np.uint8)
    numbers = np.arange(len(pos))
    panes = [Pane(title, (_points(pos, colors, numbers),))]
    for place, view in enumerate(views, 1):
        panes.append(Pane(f"view {place}, {len(view.ids):,} points", (_points(view.pos, colors, view.ids),)))
    everything = np.concatenate([pane.everything() for pane in panes])
    joined, count = _joined(views[0], views[1], colors, camera_around(everything))
    panes.append(joined)
    everything = np.concatenate([pane.everything() for pane in panes])
    note = f"Colours: the place of a point in the cloud. {count:,} points are in both of the first two views."
    return Scene(tuple(panes), camera_around(everything), columns=2 if len(panes) == 4 else 0, notes=(note,))


def _points(pos: np.ndarray, colors: np.ndarray, ids: np.ndarray) -> Points:
    """Points with the colours of their numbers, in the order of the numbers."""
    order = np.argsort(ids, kind="stable")
    coloring = Coloring("place in the cloud", colors[ids[order]])
    return Points(pos[order].astype(np.float32), (coloring,), numbers=ids[order])


def _joined(first: Seen, second: Seen, colors: np.ndarray, camera: Camera) -> tuple[Pane, int]:
    """A pane with both views at half the size, and how many points they share."""
    right = camera.axes()[0]
    size = max(float(np.abs(each.pos @ right).max()) for each in (first, second))
    shift = 0.5 * APART * size * right
    left, other = 0.5 * first.pos - shift, 0.5 * second.pos + shift
    shared, a, b = np.intersect1d(first.ids, second.ids, return_indices=True)
    chosen = np.linspace(0, len(shared) - 1, min(PAIRS, len(shared))).astype(int)
    ends = np.stack([left[a[chosen]], other[b[chosen]]], axis=1).astype(np.float32)
    words = tuple(Text(tuple((sign * shift + 0.55 * size * camera.axes()[1]).tolist()), name)
                  for sign, name in ((-1, "view 1"), (1, "view 2")))  # fmt: skip
    drawn = (_points(left, colors, first.ids), _points(other, colors, second.ids))
    return Pane(f"{len(chosen)} matching points", drawn, (Lines(ends, GREY, on_top=True),), words), len(shared)
