"""Triangles from polygons and triangle strips, for all mesh formats."""

import numpy as np

from geo3d.errors import CloudError


def fan(corners: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(F, 3) triangles of polygons; each polygon is split into a fan around its first corner.

    Args:
        corners: Vertex indices of all polygons, one after another.
        counts: Number of corners of each polygon; polygons with fewer than three give no triangle.

    Example:
        >>> fan(np.array([4, 5, 6, 7]), np.array([4])).tolist()
        [[4, 5, 6], [4, 6, 7]]
    """
    counts = counts.astype(np.int64)
    starts = np.cumsum(counts) - counts
    triangles = np.maximum(counts - 2, 0)
    first = np.repeat(starts, triangles)
    step = np.arange(triangles.sum()) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    return corners[np.stack([first, first + step + 1, first + step + 2], 1)].astype(np.int64)


def strips(corners: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(F, 3) triangles of strips; from the third corner of a strip on, each forms one with the two before it.

    Every second triangle is reversed, so that all face the same side. Triangles with a repeated corner, which only
    connect the parts of a strip, are left out.

    Args:
        corners: Vertex indices of all strips, one after another; -1 begins a new strip.
        counts: Number of entries of each row; a strip also ends at the end of its row.

    Example:
        >>> strips(np.array([0, 1, 2, 3, -1, 4, 5, 6]), np.array([8])).tolist()
        [[0, 1, 2], [2, 1, 3], [4, 5, 6]]
    """
    chain = np.insert(corners.astype(np.int64), np.cumsum(counts.astype(np.int64)), -1)
    place = np.arange(len(chain))
    started = np.maximum.accumulate(np.where(chain == -1, place, -1)) if len(chain) else place
    odd = ((place - started) % 2 == 0)[:-2]  # place - started is 1 at the first corner of a strip
    a, b, c = chain[:-2], chain[1:-1], chain[2:]
    real = (a != -1) & (b != -1) & (c != -1) & (a != b) & (b != c) & (a != c)
    return np.stack([np.where(odd, b, a), np.where(odd, a, b), c], 1)[real]


def check_faces(faces: np.ndarray, num_vertices: int, source: str) -> None:
    """Check that faces only refer to vertices that exist.

    Raises:
        CloudError: If one does not.
    """
    if faces.size and (faces.min() < 0 or faces.max() >= num_vertices):
        bad = int(faces.min() if faces.min() < 0 else faces.max())
        raise CloudError(f"{source}: a face refers to vertex {bad} (counted from 0); the file has {num_vertices}")
