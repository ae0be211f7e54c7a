"""One description of a picture: panes of points and lines under one camera. Windows, PNG files and pages draw it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from geo3d.errors import CloudError

FIELD = 30.0
"""Vertical angle of view in degrees."""


class Coloring(NamedTuple):
    """One way to colour the points: a colour for each, or for each the number of an entry of a table."""

    name: str
    """What the colours show, such as ``height`` or ``label``."""
    values: np.ndarray
    """(N, 3) uint8 colours, or (N,) integers from 0 to K - 1."""
    table: np.ndarray | None = None
    """(K, 3) uint8 colours of the entries."""
    names: tuple[str, ...] = ()
    """K names of the entries, for the legend and for the label of a point under the mouse; empty for a scale."""
    limits: tuple[float, float] | None = None
    """What the first and the last entry of a scale stand for."""

    def rgb(self) -> np.ndarray:
        """(N, 3) uint8 colours."""
        return self.values if self.table is None else self.table[self.values]


class Points(NamedTuple):
    """Points that are drawn alike."""

    pos: np.ndarray
    """(N, 3) float32"""
    colorings: tuple[Coloring, ...]
    """At least one; the first is shown, windows and pages change between them."""
    scale: float = 1.0
    """Their size, relative to that which suits the number of points."""
    on_top: bool = False
    """Whether they are drawn over everything else, however far away they are."""
    numbers: np.ndarray | None = None
    """(N,) the number of each point in its source, growing; None: its row."""
    name: str = ""
    """What one of them is called; empty: a point."""


class Lines(NamedTuple):
    """Straight lines of one colour."""

    ends: np.ndarray
    """(L, 2, 3) float32"""
    color: tuple[int, int, int]
    on_top: bool = False
    """Whether they are drawn over everything else."""


class Text(NamedTuple):
    """A word at a place."""

    pos: tuple[float, float, float]
    text: str


class Pane(NamedTuple):
    """What is seen in one rectangle."""

    title: str
    points: tuple[Points, ...] = ()
    lines: tuple[Lines, ...] = ()
    texts: tuple[Text, ...] = ()

    def everything(self) -> np.ndarray:
        """(M, 3) all points and ends of lines."""
        parts = [each.pos for each in self.points] + [each.ends.reshape(-1, 3) for each in self.lines]
        return np.concatenate([np.empty((0, 3), np.float32), *parts]).astype(np.float64)


class Camera(NamedTuple):
    """A pinhole camera that looks at a place."""

    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    field: float = FIELD
    """Vertical angle of view in degrees."""

    def axes(self) -> np.ndarray:
        """(3, 3) rows: the directions to the right, upwards, and from the target to the eye."""
        back = np.subtract(self.eye, self.target)
        back /= np.linalg.norm(back)
        right = np.cross(self.up, back)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(back, right), back])

    def seen(self, pos: np.ndarray, width: float, height: float) -> np.ndarray:
        """(N, 3) pixels to the right and downwards from the corner of the picture, and the depth before the eye.

        Args:
            pos: (N, 3)
            width: Of the picture, in pixels.
            height: Of the picture, in pixels.
        """
        side, rise, back = ((np.asarray(pos, dtype=np.float64) - self.eye) @ self.axes().T).T
        depth = -back
        focal = height / 2 / np.tan(np.radians(self.field) / 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.stack([width / 2 + focal * side / depth, height / 2 - focal * rise / depth, depth], axis=1)


class Scene(NamedTuple):
    """A whole picture."""

    panes: tuple[Pane, ...]
    camera: Camera
    columns: int = 0
    """Panes side by side; 0: all."""
    notes: tuple[str, ...] = ()
    """Lines of text below."""
    axes: bool = True
    """Whether the directions of the axes are drawn in a corner of each pane."""

    def legends(self) -> list[Coloring]:
        """The first colourings of all points that have names or a scale, each once; of names only those that occur."""
        legends: dict[tuple[Any, ...], Coloring] = {}
        occurring: dict[tuple[Any, ...], set[int]] = {}
        for points in (each for pane in self.panes for each in pane.points):
            first = points.colorings[0]
            if first.table is None or not (first.names or first.limits):
                continue
            key = (first.name, first.names, first.limits)
            legends[key] = first
            occurring.setdefault(key, set()).update(np.unique(first.values).tolist())
        return [_only(each, sorted(occurring[key])) for key, each in legends.items()]


def _only(coloring: Coloring, entries: Sequence[int]) -> Coloring:
    """The colouring with these entries of its table alone; a scale stays whole."""
    if coloring.limits is not None or coloring.table is None:
        return coloring
    return coloring._replace(table=coloring.table[list(entries)], names=tuple(coloring.names[each] for each in entries))


CAMERA_UPRIGHT = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""Rotation from the axes of a depth camera (x right, y down, z forward) to axes with z up; the camera looks along y."""


def camera_around(
    pos: np.ndarray,
    azimuth: float = -55.0,
    elevation: float = 24.0,
    margin: float = 1.08,
    field: float = FIELD,
    upright: np.ndarray | None = None,
) -> Camera:
    """The nearest camera that sees all points in a square picture.

    Args:
        pos: (N, 3) points; at least one.
        azimuth: From where in the plane the camera looks, in degrees from the x axis.
        elevation: How far above the plane it stands, in degrees, from -89 to 89.
        margin: The picture is this much larger than the points need.
        field: Angle of view in degrees.
        upright: (3, 3) rotation to axes with z up, which the angles belong to; None for points with z up.

    Raises:
        CloudError: If there is no point, or one that is not finite.

    Example:
        >>> camera = camera_around(np.eye(3))
        >>> bool((np.abs(camera.seen(np.eye(3), 100, 100)[:, :2] - 50) < 50).all())
        True
    """
    pos = np.asarray(pos, dtype=np.float64)
    if not len(pos) or not np.isfinite(pos).all():
        raise CloudError(f"a picture needs at least one point, and finite coordinates; found {len(pos)} points")
    turn = np.eye(3) if upright is None else upright
    target = (pos.min(0) + pos.max(0)) / 2
    a, e = np.radians((azimuth, elevation))
    back = np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
    right = np.array([-np.sin(a), np.cos(a), 0.0])
    axes = np.stack([right, np.cross(back, right), back]) @ turn
    side, rise, toward = ((pos - target) @ axes.T).T
    slope = np.tan(np.radians(field) / 2) / margin
    distance = float(np.max(np.maximum(np.abs(side), np.abs(rise)) / slope + toward))
    size = float(np.linalg.norm(pos - target, axis=1).max())
    eye = target + axes[2] * max(distance, 1.01 * size, 1e-6 * (1 + np.abs(target).max()))
    return Camera(tuple(eye.tolist()), tuple(target.tolist()), tuple(turn[2].tolist()), field)


def thinned(count: int, most: int, seed: int = 0) -> np.ndarray | None:
    """(most,) numbers of the points that are drawn, in order; None if there are at most that many.

    The draw depends on the numbers alone, so that a cloud looks the same each time.
    """
    if count <= most:
        return None
    return np.sort(np.random.default_rng((seed, count, most)).choice(count, most, replace=False))
