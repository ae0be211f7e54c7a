"""Scenes of features: principal components as colours, and how similar all points are to a chosen one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from geo3d.show.colorings import of_scalar
from geo3d.show.pca import Basis
from geo3d.show.scene import Coloring, Pane, Points, Scene, camera_around

MARK = (213, 94, 0)
"""Colour of a chosen point."""
MARK_SIZE = 2.5


class Featured(NamedTuple):
    """A cloud with features."""

    title: str
    pos: np.ndarray
    """(N, 3)"""
    features: np.ndarray
    """(N, C)"""
    numbers: np.ndarray | None = None
    """(N,) the numbers of its points in the source; None: their rows."""


def feature_scene(clouds: Sequence[Featured], basis: Basis, point: int | None = None) -> Scene:
    """A scene with a pane for each cloud, and below it, if a point is chosen, how similar its points are to that one.

    Args:
        clouds: The clouds. The chosen point is of the first one.
        basis: Gives colours to features.
        point: Row of the chosen point in the first cloud; None for none.
    """
    panes = [
        Pane(
            each.title, (Points(each.pos, (Coloring("features", basis.colors(each.features)),), numbers=each.numbers),)
        )
        for each in clouds
    ]
    notes = [f"Colours: three principal components of the features, {100 * basis.explained:.0f} % of their variance."]
    if point is not None:
        similar = [cosines(each.features, clouds[0].features[point]) for each in clouds]
        low = min(float(each.min()) for each in similar)
        number = point if clouds[0].numbers is None else int(clouds[0].numbers[point])
        for place, (each, values) in enumerate(zip(clouds, similar, strict=True)):
            shown = Points(each.pos, (of_scalar("cosine similarity", values, (low, 1.0)),), numbers=each.numbers)
            own = (marked(clouds[0].pos[point], f"chosen point {number}"),) if place == 0 else ()
            panes.append(Pane(f"{each.title}, similarity to point {number}", (shown, *own)))
    everything = np.concatenate([pane.everything() for pane in panes])
    return Scene(
        tuple(panes), camera_around(everything), columns=len(clouds) if len(clouds) > 1 else 0, notes=tuple(notes)
    )


def marked(place: np.ndarray, name: str) -> Points:
    """A point that stands out."""
    color = Coloring("chosen", np.array([MARK], dtype=np.uint8))
    return Points(place[None].astype(np.float32), (color,), MARK_SIZE, on_top=True, name=name)


def cosines(features: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(N,) cosine similarity of features (N, C) to one (C,); 0 where one of the two is zero."""
    x, y = features.astype(np.float64), chosen.astype(np.float64)
    sizes = np.linalg.norm(x, axis=1) * np.linalg.norm(y)
    return np.divide(x @ y, sizes, out=np.zeros(len(x)), where=sizes > 0).clip(-1, 1)
