"""Tables of numbers in text: XYZ, TXT, PTS, CSV."""

import re
from io import StringIO
from pathlib import Path

import numpy as np

from geo3d.errors import CloudError
from geo3d.io.files import read_bytes
from geo3d.io.names import Arrays, from_columns, from_rows

COMMENT = re.compile(r"(#|//)[^\n]*")


def read_table(path: str | Path) -> Arrays:
    """``pos`` from the first three columns, and what the others hold.

    Columns are separated by spaces, tabs, commas or semicolons. A first line of names (x, y, z, nx, red, label, ...)
    decides what columns are; without one, columns 4 to 6 are normals if their rows have unit length, else colours. A
    first line with one whole number alone, as in PTS files, is the number of points.

    Raises:
        CloudError: If there are no numbers, fewer than three columns, rows of different lengths, or fewer rows than
            the first line says.
    """
    source = str(path)
    text = read_bytes(path).decode("utf-8-sig", "replace").replace("\r", "\n")
    names, text = _names(text)
    text = COMMENT.sub("", text)
    if ";" in text and "," in text:
        raise CloudError(f"{source}: found both ';' and ','; use points in numbers and one separator")
    text = text.replace(",", " ").replace(";", " ")
    first, _, rest = text.lstrip().partition("\n")
    expected = int(first.strip()) if first.strip().isdecimal() else None
    if expected is not None:
        text = rest
    if not text.strip():
        raise CloudError(f"{source}: expected {expected or 'some'} points, file ends after 0")
    try:
        rows = np.loadtxt(StringIO(text), dtype=np.float64, ndmin=2, comments=None)
    except ValueError as error:
        raise CloudError(f"{source}: expected rows of numbers of the same length: {error}") from error
    if expected is not None and len(rows) < expected:
        raise CloudError(f"{source}: expected {expected} points, file ends after {len(rows)}")
    if rows.shape[1] < 3:
        raise CloudError(f"{source}: expected three or more columns, found {rows.shape[1]}")
    if names and len(names) == rows.shape[1] and {"x", "y", "z"} <= set(names):
        return from_columns({name: rows[:, i] for i, name in enumerate(names)}, source)
    if Path(path).suffix.lower() == ".pts" and rows.shape[1] == 7:  # x y z intensity r g b, as scanners write it
        return {"pos": rows[:, :3], "x": rows[:, 3:4], "rgb": rows[:, 4:]}
    return from_rows(rows)


def _names(text: str) -> tuple[list[str], str]:
    """Lower-case names in the first line and the text below it; no names if that line holds numbers."""
    lead = text.lstrip()
    first, _, rest = lead.partition("\n")
    words = re.split(r"[\s,;]+", first.strip(" \t#/").replace('"', ""))
    try:
        [float(word) for word in words if word]
    except ValueError:
        return [word.lower() for word in words if word], rest
    return [], text
