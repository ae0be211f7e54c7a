"""The scene of the neighbours of one point in each layer of an encoder."""

from collections.abc import Mapping

import numpy as np

from geo3d.show.palette import UNKNOWN, distinct
from geo3d.show.scene import Coloring, Lines, Pane, Points, Scene, camera_around
from geo3d.show.scenes.features import marked

NEIGHBOR_SIZE = 1.6


def neighbor_scene(pos: np.ndarray, layers: Mapping[str, np.ndarray], point: int, numbers: np.ndarray) -> Scene:
    """A scene with a pane for each layer: the points in grey, the neighbours of the chosen one joined with it.

    Args:
        pos: (N, 3) points.
        layers: Name of each layer -> (k,) rows of the neighbours.
        point: Row of the chosen point.
        numbers: (N,) numbers of the points in the source.
    """
    panes = []
    grey = Coloring("points", np.zeros(len(pos), dtype=np.int64), np.array([UNKNOWN], dtype=np.uint8))
    blue = tuple(distinct(1)[0].tolist())
    for name, neighbors in layers.items():
        others = np.unique(neighbors[neighbors != point])
        color = Coloring("neighbours", np.tile(np.array(blue, dtype=np.uint8), (len(others), 1)))
        drawn = Points(pos[others], (color,), NEIGHBOR_SIZE, on_top=True, numbers=numbers[others])
        ends = np.stack([np.broadcast_to(pos[point], (len(others), 3)), pos[others]], axis=1)
        away = np.linalg.norm(pos[others] - pos[point], axis=1)
        title = f"{name}: {len(others)} neighbours" + (f", mean distance {away.mean():.2f}" if len(others) else "")
        mark = marked(pos[point], f"chosen point {numbers[point]}")
        panes.append(
            Pane(title, (Points(pos, (grey,), numbers=numbers), drawn, mark), (Lines(ends, blue, on_top=True),))
        )
    columns = len(panes) if len(panes) < 4 else -(-len(panes) // 2)
    return Scene(tuple(panes), camera_around(pos), columns)
