"""A torus as a pane, for tests of pictures."""

import numpy as np

from geo3d.show.palette import distinct, gradient
from geo3d.show.scene import Coloring, Lines, Pane, Points, Scene, Text, camera_around


def torus(count: int, seed: int = 0) -> np.ndarray:
    """(count, 3) float32 points on a torus that lies flat."""
    u, v = 2 * np.pi * np.random.default_rng(seed).random((2, count))
    wide = 1 + 0.35 * np.cos(u)
    return np.stack([wide * np.cos(v), wide * np.sin(v), 0.35 * np.sin(u)], axis=1).astype(np.float32)


def pane(count: int, title: str = "torus") -> Pane:
    """Its points, coloured by height and by quarter, a line and a word."""
    pos = torus(count)
    height = (255 * (pos[:, 2] + 0.35) / 0.7).clip(0, 255).round().astype(np.int64)
    quarter = (pos[:, 0] > 0).astype(np.int64) + 2 * (pos[:, 1] > 0)
    colorings = (
        Coloring("height", height, gradient(), limits=(-0.35, 0.35)),
        Coloring("quarter", quarter, distinct(4), names=("south-west", "south-east", "north-west", "north-east")),
    )
    lines = Lines(np.array([[[0, 0, -1], [0, 0, 1]]], dtype=np.float32), (200, 30, 30))
    return Pane(title, (Points(pos, colorings),), (lines,), (Text((0.0, 0.0, 1.0), "axis"),))


def scene(count: int = 2000, panes: int = 1) -> Scene:
    """Panes of the same torus."""
    every = tuple(pane(count, f"torus {number}") for number in range(panes))
    return Scene(every, camera_around(every[0].everything()), notes=("a note",))
