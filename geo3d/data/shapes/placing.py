"""Names of parts, rotations, random choices for one object, and its parts in place."""

import math
from typing import Any

import numpy as np

from geo3d.data.shapes.mesh import Surface

PARTS = (
    "body",
    "seat",
    "top",
    "back",
    "arm",
    "leg",
    "base",
    "shaft",
    "handle",
    "wheel",
    "wing",
    "panel",
    "detail",
    "soft",
)
"""Names of the part labels. All classes share them: a leg has the same label under a chair and under a piano."""

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]

UPRIGHT: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def product(a: Matrix, b: Matrix) -> Matrix:
    """The matrix product ``a b``, which applies ``b`` first; in plain numbers, as NumPy is slow on nine of them."""
    return tuple(tuple(sum(r[k] * b[k][j] for k in range(3)) for j in range(3)) for r in a)  # type: ignore[return-value]


def turn(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Matrix:
    """The rotation about x, then y, then z, by angles in degrees."""
    out = UPRIGHT
    if x:
        c, s = math.cos(math.radians(x)), math.sin(math.radians(x))
        out = ((1.0, 0.0, 0.0), (0.0, c, -s), (0.0, s, c))
    if y:
        c, s = math.cos(math.radians(y)), math.sin(math.radians(y))
        out = product(((c, 0.0, s), (0.0, 1.0, 0.0), (-s, 0.0, c)), out)
    if z:
        c, s = math.cos(math.radians(z)), math.sin(math.radians(z))
        out = product(((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)), out)
    return out


class Draws:
    """Random choices for one object, in plain Python numbers."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def real(self, low: float, high: float) -> float:
        """A number between ``low`` and ``high``."""
        return low + (high - low) * self.rng.random()

    def count(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return low + int((high - low + 1) * self.rng.random())

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.rng.random() < probability

    def pick(self, *options: Any) -> Any:
        """One of the options."""
        return options[int(len(options) * self.rng.random())]


class Placed:
    """Surfaces in place. Each has a linear map, an offset and a part label."""

    def __init__(self) -> None:
        self.surfaces: list[Surface] = []
        self.linear: list[Matrix] = []
        self.offset: list[Vector] = []
        self.labels: list[int] = []
