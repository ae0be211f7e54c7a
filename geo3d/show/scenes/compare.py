"""The scene of two encoders on one cloud: features of both, and where they differ."""

import numpy as np

from geo3d.show.colorings import of_scalar
from geo3d.show.pca import fitted
from geo3d.show.scene import Coloring, Pane, Points, Scene, camera_around

NEAREST = 10
"""Most similar points of each point that the two encoders are asked for."""
ROWS = 1000
"""Points whose similarities to all others are in memory at a time."""


def compare_scene(
    pos: np.ndarray, first: np.ndarray, second: np.ndarray, names: tuple[str, str], numbers: np.ndarray
) -> Scene:
    """A scene of three panes: features of the first and the second encoder, and how far they agree at each point.

    The encoders may have different numbers of channels. They agree at a point as far as the ten points that are most
    similar to it are the same. Where the channels are as many, each point's cosine similarity is a further colouring.

    Args:
        pos: (N, 3) points.
        first: (N, C) features of the first encoder.
        second: (N, C') features of the second encoder.
        names: Of the two.
        numbers: (N,) numbers of the points in the source.
    """
    basis = fitted(first)
    same = first.shape[1] == second.shape[1]
    other = basis if same else fitted(second)
    panes = [
        Pane(name, (Points(pos, (Coloring("features", each.colors(x)),), numbers=numbers),))
        for name, each, x in zip(names, (basis, other), (first, second), strict=True)
    ]
    agreement = agreeing(first, second)
    colorings = [of_scalar("agreement", agreement, (0.0, 1.0))]
    notes = [
        f"agreement {agreement.mean():.2f}: of the {NEAREST} points that are most similar to a point, this fraction is "
        f"the same for both; {NEAREST / max(len(pos) - 1, 1):.2f} by chance"
    ]
    if same:
        cosine = rowwise_cosine(first, second)
        colorings.append(of_scalar("cosine similarity", cosine, (min(0.0, float(cosine.min())), 1.0)))
        notes.append(
            f"mean cosine similarity of the features of a point {cosine.mean():.3f}, lowest {cosine.min():.3f}"
        )
    else:
        notes.append(f"{first.shape[1]} and {second.shape[1]} channels: each encoder has colours of its own")
    panes.append(Pane("where they agree", (Points(pos, tuple(colorings), numbers=numbers),)))
    return Scene(tuple(panes), camera_around(pos), notes=tuple(notes))


def rowwise_cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) cosine similarity of the rows of two arrays (N, C); 0 where one of them is zero."""
    x, y = first.astype(np.float64), second.astype(np.float64)
    sizes = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.divide((x * y).sum(1), sizes, out=np.zeros(len(x)), where=sizes > 0).clip(-1, 1)


def agreeing(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) fraction of the most similar points of each point that two encoders have in common, from 0 to 1."""
    count = min(NEAREST, len(first) - 1)
    if count < 1:
        return np.ones(len(first))
    agreed = np.empty(len(first))
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (first, second))
    for start in range(0, len(first), ROWS):
        rows = np.arange(start, min(start + ROWS, len(first)))
        sets = [_most_similar(x, rows, count) for x in (a, b)]
        agreed[rows] = [len(np.intersect1d(one, two)) / count for one, two in zip(*sets, strict=True)]
    return agreed


def _most_similar(x: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """(n, count) the points most similar to each of some rows of unit features, without itself."""
    similar = x[rows] @ x.T
    similar[np.arange(len(rows)), rows] = -np.inf
    return np.argpartition(-similar, count - 1, axis=1)[:, :count]
