"""A thing in a room: triangles in metres with a class and colours, and what it takes up of the floor."""

import math
from typing import NamedTuple

import numpy as np

from geo3d.data.shapes.mesh import Array, array

CLASSES = (
    "wall",
    "floor",
    "ceiling",
    "door",
    "window",
    "chair",
    "table",
    "sofa",
    "bed",
    "shelf",
    "cabinet",
    "lamp",
    "plant",
    "monitor",
    "piano",
    "bathtub",
    "toilet",
    "picture",
    "curtain",
    "column",
    "clutter",
)
"""Names of the classes of points."""


OF_THE_ROOM = ("wall", "floor", "ceiling", "door", "window", "column")
"""Classes of what belongs to the room itself, which has no instances."""


class Thing(NamedTuple):
    """One instance: an object, or one surface of the room itself."""

    label: str
    """One of :data:`CLASSES`."""
    corner: Array
    """(F, 3, 3) corners of its triangles in metres, z up."""
    color: Array
    """(F, 3) red, green and blue from 0 to 1 of each triangle."""

    @property
    def low(self) -> Array:
        """(3,) the lowest coordinates."""
        return self.corner.min((0, 1))

    @property
    def high(self) -> Array:
        """(3,) the highest coordinates."""
        return self.corner.max((0, 1))

    def turned(self, angle: float) -> "Thing":
        """The thing turned about the vertical axis through the origin, by an angle in radians."""
        c, s = math.cos(angle), math.sin(angle)
        turn = array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])
        return self._replace(corner=np.matmul(self.corner, turn))

    def moved(self, shift: tuple[float, float, float]) -> "Thing":
        """The thing moved by a vector."""
        return self._replace(corner=self.corner + array(shift))


class Area(NamedTuple):
    """An upright rectangle of the floor with sides along the axes, up to a height."""

    left: float
    right: float
    front: float
    back: float
    height: float = math.inf

    def meets(self, other: "Area", gap: float = 0.0) -> bool:
        """Whether two areas are closer than ``gap`` in plan."""
        return (
            self.left < other.right + gap
            and other.left < self.right + gap
            and self.front < other.back + gap
            and other.front < self.back + gap
        )

    def within(self, other: "Area") -> bool:
        """Whether the other area contains this one in plan."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.front >= other.front
            and self.back <= other.back
        )


def area_of(thing: Thing) -> Area:
    """What a thing takes up of the floor, as the rectangle around it."""
    (left, front, _), (right, back, height) = thing.low.tolist(), thing.high.tolist()
    return Area(left, right, front, back, height)


def rectangle(start: tuple[float, ...], along: tuple[float, ...], up: tuple[float, ...]) -> Array:
    """(2, 3, 3) the two triangles of the rectangle with one corner at ``start`` and these two sides."""
    a, u, v = array(start), array(along), array(up)
    return np.stack([np.stack([a, a + u, a + u + v]), np.stack([a, a + u + v, a + v])])


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> Array:
    """(12, 3, 3) the triangles of a box with sides along the axes."""
    (x, y, z), (u, v, w) = low, high
    sides = [
        rectangle(low, (0, v - y, 0), (u - x, 0, 0)),
        rectangle((x, y, w), (u - x, 0, 0), (0, v - y, 0)),
        rectangle(low, (u - x, 0, 0), (0, 0, w - z)),
        rectangle((x, v, z), (0, 0, w - z), (u - x, 0, 0)),
        rectangle(low, (0, 0, w - z), (0, v - y, 0)),
        rectangle((u, y, z), (0, v - y, 0), (0, 0, w - z)),
    ]
    return np.concatenate(sides)
