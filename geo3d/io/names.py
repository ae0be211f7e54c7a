"""The names that files use for coordinates, normals, colours and labels, and their translation to geo3d's names.

Readers return a dict of arrays under geo3d's names: ``pos (N, 3)``, ``normal (N, 3)``, ``rgb (N, 3)``,
``point_y (N,)``, ``x (N, C)``, ``joints (J, 3)``, and ``faces (F, 3)`` if there are any.
"""

import re
from collections.abc import Sequence
from math import prod

import numpy as np

from geo3d.errors import CloudError

Arrays = dict[str, np.ndarray]

POS = ("pos", "xyz", "points", "coord", "coords", "positions", "vertices", "data", "point_cloud", "pointcloud", "pc")
NORMAL = ("normal", "normals")
RGB = ("rgb", "color", "colors", "colour", "colours")
LABEL = ("point_y", "label", "labels", "segment", "semantic", "class", "classification", "scalar_label", "y")
FEATURES = ("x", "features", "feature", "feat")
JOINTS = ("joints",)
SCALES = {"u1": 255, "i1": 255, "b1": 255, "u2": 65535, "i2": 65535}
"""The value of full brightness in colours of each dtype."""
TRIPLES = {
    "normal": (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"), ("normalx", "normaly", "normalz")),
    "rgb": (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue")),
}
AXES = (
    ("x", "easting", "east", "e"),
    ("y", "northing", "north", "n"),
    ("z", "height", "elevation", "altitude", "elev", "alt", "h"),
)
"""The names that files use for the three coordinates."""
UNIT = re.compile(r"[\[({<](.*?)[\])}>]$")
WRAPPING = re.compile(r"^(coords?|coordinate|pos|position|point)[ ._-]*(?=[xyz]$)|(?<=^[xyz])[ ._-]*coord(?:inate)?s?$")
IGNORED = ("", "_", "alpha", "a", "diffuse_alpha")


def from_columns(columns: Sequence[tuple[str, np.ndarray]], source: str) -> Arrays:
    """Arrays under geo3d's names, from named columns (N,) or (N, count); other columns go to ``x`` in their order.

    Coordinates are called x, y, z, or easting, northing, height (elevation, altitude), perhaps with a unit, as in
    ``X [m]``, ``Easting (m)``, ``Coord. X``. Columns of opacity, and those without a name, are left out.

    Raises:
        CloudError: If no columns, or more than three, can be the coordinates, their units differ, or a known name
            occurs twice.
    """
    rest = [(name.strip().lower(), values) for name, values in columns]
    names = [name for name, _ in rest]
    taken: dict[str, list[int]] = {"pos": _axes(names, source)}
    for key, options in TRIPLES.items():
        triple = next((triple for triple in options if set(triple) <= set(names)), ())
        if triple:
            taken[key] = [_only(name, names, source) for name in triple]
    arrays: Arrays = {}
    for key, places in taken.items():
        three = [rest[i][1] for i in places]
        if any(values.ndim > 1 for values in three):
            raise CloudError(f"{source}: expected one number per point in {', '.join(names[i] for i in places)}")
        arrays[key] = np.stack(three, 1)
    used = {i for places in taken.values() for i in places}
    label = next((name for name in LABEL if name in {n for i, n in enumerate(names) if i not in used}), None)
    if label is not None:
        place = _only(label, names, source)
        if rest[place][1].ndim == 1:
            arrays["point_y"] = rest[place][1]
            used.add(place)
    features = [
        v.reshape(len(v), prod(v.shape[1:]))
        for i, (name, v) in enumerate(rest)
        if i not in used and name not in IGNORED
    ]
    if features:
        arrays["x"] = np.concatenate([feature.astype(np.float32) for feature in features], 1)
    return arrays


def _only(name: str, names: Sequence[str], source: str) -> int:
    """The index of a name that must not occur twice."""
    if names.count(name) > 1:
        raise CloudError(f"{source}: expected one column called {name}, found {names.count(name)}; rename the others")
    return names.index(name)


def _axes(names: Sequence[str], source: str) -> list[int]:
    """The indices of the columns of x, y and z, from the lower-case names of all columns."""
    if {"x", "y", "z"} <= set(names):
        return [_only(axis, names, source) for axis in "xyz"]
    parsed = [axis_of(name) for name in names]
    plain = [(axis if bare in "xyz" else None) for axis, bare, _ in parsed]
    mapped = [(axis if axis == 2 or bare not in "xyz" else None) for axis, bare, _ in parsed]
    level = [(axis if axis == 2 or bare in "xyz" else None) for axis, bare, _ in parsed]
    for axes in (plain, mapped, level):  # x and y, or easting and northing, never one of each
        places = [[i for i, axis in enumerate(axes) if axis == wanted] for wanted in range(3)]
        if all(len(each) == 1 for each in places):
            break
    else:
        raise CloudError(f"{source}: expected columns x, y, z; found {', '.join(names) or 'none'}"[:400])
    units = [parsed[each[0]][2] for each in places]
    if len(set(units) - {""}) > 1:
        raise CloudError(f"{source}: expected coordinates in one unit, found {', '.join(units)}"[:300])
    return [each[0] for each in places]


def axis_of(name: str) -> tuple[int | None, str, str]:
    """The coordinate (0, 1, 2 or None) that a lower-case name stands for, the bare name, and its unit.

    Example:
        >>> axis_of("x [m]"), axis_of("elevation"), axis_of("coord. y")
        ((0, 'x', 'm'), (2, 'elevation', ''), (1, 'y', ''))
    """
    bare, unit = name.strip(), ""
    if match := UNIT.search(bare):
        bare, unit = bare[: match.start()].strip(" _"), match[1].strip()
    bare = WRAPPING.sub("", bare)
    return next((i for i, known in enumerate(AXES) if bare in known), None), bare, unit


def from_rows(rows: np.ndarray) -> Arrays:
    """Arrays under geo3d's names, from columns without names, (N, 3 or more).

    Columns 4 to 6 are normals if more than 90 % of their rows have unit length. They are colours if all values lie in
    0..1, or are whole numbers in 0..255. If they are neither, they go to ``x``, as all further columns do.
    """
    arrays: Arrays = {"pos": rows[:, :3]}
    first = 3
    if rows.shape[1] >= 6:
        three = rows[:, 3:6]
        with np.errstate(over="ignore", invalid="ignore"):
            unit = np.abs(np.sqrt((three.astype(np.float64) ** 2).sum(1)) - 1) < 0.02
            inside = np.all((three >= 0) & (three <= 255))
            colour = inside and (np.all(three <= 1) or np.all(three == np.round(three)))
        # not all rows: programs write zeros where they could not estimate a normal
        if unit.mean() > 0.9:
            arrays["normal"], first = three, 6
        elif colour:
            arrays["rgb"], first = three, 6
    if rows.shape[1] > first:
        arrays["x"] = rows[:, first:].astype(np.float32)
    return arrays


def as_colours(values: np.ndarray, source: str) -> np.ndarray:
    """(N, 3) float32 colours in 0..1, divided by the value of full brightness of their dtype.

    That is 255 for 8-bit and 65535 for 16-bit integers. Wider integers are taken for 8 bits if none is above 255, else
    for 16 bits. Floating-point values are fractions if none is above 1; otherwise they are scaled like wide integers,
    because programs average colours of 8 bits. Values that are not whole are refused if the largest one is above 255,
    or so near to 1 (below 2) that they may be fractions.

    Raises:
        CloudError: If a value is negative, not finite or above 65535, or the scale of the values is not clear.

    Example:
        >>> as_colours(np.array([[0, 51, 255]], np.uint8), "a").tolist()
        [[0.0, 0.20000000298023224, 1.0]]
    """
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not (low >= 0 and high <= 65535):
        raise CloudError(f"{source}: expected colours in 0..1, 0..255 or 0..65535; found {low:g} to {high:g}")
    scale: float = SCALES.get(values.dtype.kind + str(values.dtype.itemsize), 0)
    if not scale:
        fractions = values.dtype.kind == "f"
        if fractions and (1 < high < 2 or high > 255) and (values != np.round(values)).any():
            raise CloudError(f"{source}: expected colours in 0..1 or 0..255; found fractions from {low:g} to {high:g}")
        scale = 1 if fractions and high <= 1 else 255 if high <= 255 else 65535
    return (values / scale).astype(np.float32)


def as_labels(values: np.ndarray, source: str) -> np.ndarray:
    """int64 labels, from whole numbers of any dtype.

    Raises:
        CloudError: If a value is not a whole number, or exceeds 2**53.
    """
    if values.dtype.kind not in "iub" and not (np.isfinite(values).all() and (values == np.round(values)).all()):
        raise CloudError(f"{source}: expected labels that are whole numbers, found {values.dtype} with fractions")
    if values.size and max(-float(values.min()), float(values.max())) > 2**53:
        raise CloudError(f"{source}: expected labels of at most 53 bits, found {float(values.max()):g}")
    return values.astype(np.int64)
