"""The names that files give to coordinates, normals, colours and labels, and what each is in geo3d.

Readers return a dict of arrays under geo3d's names: ``pos (N, 3)``, ``normal (N, 3)``, ``rgb (N, 3)``,
``point_y (N,)``, ``x (N, C)``, and ``faces (F, 3)`` if there are any.
"""

from collections.abc import Mapping

import numpy as np

from geo3d.errors import CloudError

Arrays = dict[str, np.ndarray]

POS = ("pos", "xyz", "points", "coord", "coords", "positions", "vertices", "data", "point_cloud", "pointcloud", "pc")
NORMAL = ("normal", "normals")
RGB = ("rgb", "color", "colors", "colour", "colours")
LABEL = ("point_y", "label", "labels", "segment", "semantic", "class", "classification", "scalar_label", "y")
FEATURES = ("x", "features", "feature", "feat")
TRIPLES = {
    "pos": (("x", "y", "z"),),
    "normal": (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z")),
    "rgb": (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue")),
}
IGNORED = ("_", "alpha", "a", "diffuse_alpha")


def from_columns(columns: Mapping[str, np.ndarray], source: str) -> Arrays:
    """geo3d's arrays from named columns (N,) or (N, count); whatever has another name goes to ``x`` in its order.

    Raises:
        CloudError: If x, y, z are not among the names.
    """
    rest = {name.strip().lower(): values for name, values in columns.items()}
    found: Arrays = {}
    for key, options in TRIPLES.items():
        for names in options:
            if key not in found and all(name in rest for name in names):
                found[key] = np.stack([rest.pop(name) for name in names], 1)
    if "pos" not in found:
        raise CloudError(f"{source}: expected columns x, y, z; found {', '.join(columns) or 'none'}")
    for name in LABEL:
        if name in rest and "point_y" not in found:
            found["point_y"] = rest.pop(name)
    features = [v.reshape(len(v), -1) for name, v in rest.items() if name not in IGNORED]
    if features:
        found["x"] = np.concatenate([feature.astype(np.float32) for feature in features], 1)
    return found


def from_rows(rows: np.ndarray) -> Arrays:
    """geo3d's arrays from nameless columns (N, 3 or more).

    Columns 4 to 6 are normals if their rows have unit length, colours if they all lie in 0..1 or are whole numbers in
    0..255; columns that are neither, and those that follow, go to ``x``.
    """
    found: Arrays = {"pos": rows[:, :3]}
    first = 3
    if rows.shape[1] >= 6:
        three = rows[:, 3:6]
        with np.errstate(over="ignore", invalid="ignore"):
            unit = np.abs(np.sqrt((three.astype(np.float64) ** 2).sum(1)) - 1) < 0.02
            inside = np.all((three >= 0) & (three <= 255))
            colour = inside and (np.all(three <= 1) or np.all(three == np.round(three)))
        # a few rows of zeros are what programs write where they could not estimate a normal
        if unit.mean() > 0.9:
            found["normal"], first = three, 6
        elif colour:
            found["rgb"], first = three, 6
    if rows.shape[1] > first:
        found["x"] = rows[:, first:].astype(np.float32)
    return found


def as_colours(values: np.ndarray, source: str) -> np.ndarray:
    """(N, 3) float32 in 0..1 from whole numbers up to 255 or 65535, or from fractions.

    Raises:
        CloudError: If a value is negative, or too large for any of these.
    """
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (low >= 0 and high <= 65535):
        raise CloudError(f"{source}: expected colours in 0..1, 0..255 or 0..65535; found {low:g} to {high:g}")
    whole = values.dtype.kind in "iub"
    scale = 1 if not whole and high <= 1 else 255 if high <= 255 else 65535
    return (values / scale).astype(np.float32)


def as_labels(values: np.ndarray, source: str) -> np.ndarray:
    """int64 labels, from any numbers that are whole.

    Raises:
        CloudError: If they are not.
    """
    if values.dtype.kind not in "iub" and not (np.isfinite(values).all() and (values == np.round(values)).all()):
        raise CloudError(f"{source}: expected labels that are whole numbers, found {values.dtype} with fractions")
    return values.astype(np.int64)
