"""Stanford PLY files: text or binary of either byte order, elements and properties in any order."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from geo3d.errors import CloudError
from geo3d.io.files import read_bytes
from geo3d.io.layout import BROKEN, check_end, header_lines
from geo3d.io.mesh import check_faces, fan, strips
from geo3d.io.names import Arrays, from_columns
from geo3d.io.numbers import count, numbers, plain, typed, whole

SCALARS = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"}
SCALARS |= {"float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"}
SCALARS |= {"int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"}
FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
CORNERS = ("vertex_indices", "vertex_index")


class Property(NamedTuple):
    """One ``property`` line: a number, or a list of numbers."""

    name: str
    kind: str
    """NumPy type of the number or of the list's entries, without its byte order."""
    length: str | None
    """The same for the length of a list; None for a number."""


class Element(NamedTuple):
    """One ``element`` line and the properties below it."""

    name: str
    size: int
    properties: list[Property]


class Columns(NamedTuple):
    """One property of all rows."""

    values: np.ndarray
    """The lists of all rows are joined into one array."""
    counts: np.ndarray | None
    """Length of the list of each row; None for a number."""


def read_ply(path: str | Path) -> Arrays:
    """``pos``, ``faces`` if there are any, ``normal``, ``rgb``, ``point_y``, and all other vertex properties as ``x``.

    Faces may be polygons or triangle strips. The declared type of a property decides what its numbers mean, in text as
    well: colours of type ``uchar`` are bytes.

    Raises:
        CloudError: If the header cannot be understood, the file holds less or more data than it declares, or a face has
            a corner that does not exist.
    """
    source = str(path)
    content = read_bytes(path)
    order, elements, start = _header(content, source)
    lines = [line.split() for line in plain(content, source)[start:].splitlines()] if not order else []
    values = numbers([word for line in lines for word in line], source)
    ends = np.cumsum([len(line) for line in lines], dtype=np.int64)
    arrays: Arrays = {}
    faces: list[np.ndarray] = []
    offset = 0 if not order else start
    for element in elements:
        if order:
            columns, offset = _binary(content, offset, order, element, source)
        else:
            columns, offset = _text(values, ends, offset, element, source)
        if element.name == "vertex":
            scalars = [(p.name, c.values) for p, c in zip(element.properties, columns, strict=True) if c.counts is None]
            arrays |= from_columns(scalars, source)
        elif element.name in ("face", "tristrips"):
            faces += _triangles(element, columns, source)
    if order:
        check_end(content, offset, source)
    elif offset < len(values):
        raise CloudError(f"{source}: {len(values) - offset} numbers are left over after the rows that it declares")
    if "pos" not in arrays:
        raise CloudError(f"{source}: expected an element vertex, found {[e.name for e in elements]}"[:300])
    if faces:
        arrays["faces"] = np.concatenate(faces)
        check_faces(arrays["faces"], len(arrays["pos"]), source)
    return arrays


def _triangles(element: Element, columns: list[Columns], source: str) -> list[np.ndarray]:
    """(F, 3) triangles for each list of corners in an element of polygons or strips."""
    triangles = []
    for (name, _, _), (corners, counts) in zip(element.properties, columns, strict=True):
        if name in CORNERS and element.size:
            if counts is None:
                raise CloudError(f"{source}: expected {name} to be a list property, found a number")
            triangles.append((strips if element.name == "tristrips" else fan)(whole(corners, source), counts))
    return triangles


def _header(content: bytes, source: str) -> tuple[str, list[Element], int]:
    """Byte order ("" for text), elements, and the offset at which the data begin."""
    lines = header_lines(content)
    if next(lines, ("", 0))[0] != "ply" and content != b"ply":
        raise CloudError(f"{source}: expected a PLY file that begins with ply, found {content[:16]!r}")
    order: str | None = None
    elements: list[Element] = []
    for line, after in lines:
        match line.split():
            case [] | ["comment" | "obj_info", *_]:
                pass
            case _ if "\r" in line:
                raise CloudError(f"{source}: {BROKEN} {line[:80]!r}; the file is damaged")
            case ["end_header"]:
                start = after
                break
            case ["format", name, "1.0"] if name in FORMATS and order is None:
                order = FORMATS[name]
            case ["element", name, size]:
                elements.append(Element(name, count(size, f"rows of {name[:40]}", source), []))
            case ["property", "list", length, kind, name] if length in SCALARS and kind in SCALARS and elements:
                if SCALARS[length].startswith("f"):
                    raise CloudError(
                        f"{source}: the list {name[:40]} has a length of type {length}; expected an integer"
                    )
                elements[-1].properties.append(Property(name, SCALARS[kind], SCALARS[length]))
            case ["property", kind, name] if kind in SCALARS and elements:
                elements[-1].properties.append(Property(name, SCALARS[kind], None))
            case _:
                raise CloudError(f"{source}: cannot understand the header line {line[:80]!r}")
    else:
        raise CloudError(f"{source}: the header has no end_header; the file is cut off or not PLY")
    if order is None:
        raise CloudError(f"{source}: the header has no line 'format ascii|binary_little_endian|binary_big_endian 1.0'")
    names = [element.name for element in elements]
    if twice := [name for name in names if name in ("vertex", "face") and names.count(name) > 1]:
        raise CloudError(f"{source}: the header has several elements {twice[0]}")
    return order, elements, start


def _cut_off(element: Element, rows: int, source: str) -> CloudError:
    what = {"vertex": "points", "face": "faces"}.get(element.name, f"rows of {element.name}")
    return CloudError(f"{source}: expected {element.size} {what[:60]}, file ends after {rows}")


def _binary(content: bytes, offset: int, order: str, element: Element, source: str) -> tuple[list[Columns], int]:
    """The columns of the element, one per property, and the offset at which the next element begins."""
    lengths = [1] * len(element.properties)  # number of values per row of each property
    at = offset
    for i, (_, kind, size) in enumerate(element.properties if element.size else []):
        if size is not None:  # taken from the first row, compared with all rows below
            lengths[i], at = _length(content, at, order + size, element, 0, source)
        at += lengths[i] * int(kind[1])
        if at > len(content):
            raise _cut_off(element, 0, source)
    # fields are numbered, not named, because a name may occur twice
    fields: list[tuple] = []
    for i, (_, kind, size) in enumerate(element.properties):
        fields += [(f"n{i}", order + size)] if size is not None else []
        fields += [(f"{i}", order + kind, (lengths[i],))]
    if not fields or not element.size:
        return [Columns(np.zeros(0), None if p.length is None else np.zeros(0)) for p in element.properties], offset
    row = np.dtype(fields)
    complete = min(element.size, (len(content) - offset) // row.itemsize)
    rows = np.frombuffer(content, row, complete, offset)
    lists = [i for i, p in enumerate(element.properties) if p.length is not None]
    if any((rows[f"n{i}"] != lengths[i]).any() for i in lists) or (lists and complete < element.size):
        return _ragged(content, offset, order, element, source)
    if complete < element.size:
        raise _cut_off(element, complete, source)
    columns = []
    for i, (_, _, size) in enumerate(element.properties):
        values = rows[f"{i}"].reshape(-1)
        columns.append(Columns(values.astype(values.dtype.newbyteorder("=")), rows[f"n{i}"] if size else None))
    return columns, offset + element.size * row.itemsize


def _length(content: bytes, at: int, kind: str, element: Element, done: int, source: str) -> tuple[int, int]:
    """The length of the list at offset ``at``, and the offset of its first value."""
    end = at + np.dtype(kind).itemsize
    if end > len(content):
        raise _cut_off(element, done, source)
    length = int(np.frombuffer(content, kind, 1, at)[0])
    if length < 0:
        raise CloudError(f"{source}: a list of {element.name[:40]} has a length of {length}")
    return length, end


def _ragged(content: bytes, offset: int, order: str, element: Element, source: str) -> tuple[list[Columns], int]:
    """As ``_binary``, but row by row, for lists of different lengths."""
    values: list[list[np.ndarray]] = [[] for _ in element.properties]
    for done in range(element.size):
        for i, (_, kind, size) in enumerate(element.properties):
            length = 1
            if size is not None:
                length, offset = _length(content, offset, order + size, element, done, source)
            if offset + length * int(kind[1]) > len(content):
                raise _cut_off(element, done, source)
            values[i].append(np.frombuffer(content, order + kind, length, offset))
            offset += length * int(kind[1])
    return _joined(element, values), offset


def _text(words: np.ndarray, ends: np.ndarray, offset: int, element: Element, source: str) -> tuple[list[Columns], int]:
    """As ``_binary``, for the numbers of a text; ``ends`` holds the count of numbers up to the end of each line."""
    width = len(element.properties)
    if width and all(p.length is None for p in element.properties):
        block = words[offset : offset + element.size * width]
        if len(block) < element.size * width:
            raise _cut_off(element, len(block) // width, source)
        columns = [Columns(column, None) for column in block.reshape(element.size, width).T]
        _check_rows(offset + width * np.arange(1, element.size + 1), ends, element, source)
        return _typed(element, columns, source), offset + len(block)
    values: list[list[np.ndarray]] = [[] for _ in element.properties]
    done_at = []
    for done in range(element.size if width else 0):
        for i, p in enumerate(element.properties):
            length = 1
            if p.length is not None:
                if offset >= len(words):
                    raise _cut_off(element, done, source)
                number = float(words[offset])
                if not 0 <= number < 2**32 or number != round(number):
                    raise CloudError(f"{source}: a list of {element.name[:40]} has a length of {number:g}")
                length = int(number)
                offset += 1
            if offset + length > len(words):
                raise _cut_off(element, done, source)
            values[i].append(words[offset : offset + length])
            offset += length
        done_at.append(offset)
    _check_rows(np.array(done_at, dtype=np.int64), ends, element, source)
    return _typed(element, _joined(element, values), source), offset


def _check_rows(done: np.ndarray, ends: np.ndarray, element: Element, source: str) -> None:
    """Check that every row ends at the end of a line; a row that lost a number would take one from the next."""
    wrong = ~np.isin(done, ends)
    if wrong.any():
        row = int(wrong.argmax())
        raise CloudError(f"{source}: row {row} of {element.name[:40]} (counted from 0) ends within a line")


def _joined(element: Element, values: list[list[np.ndarray]]) -> list[Columns]:
    columns = []
    for p, rows in zip(element.properties, values, strict=True):
        joined = np.concatenate(rows) if rows else np.zeros(0)
        counts = np.array([len(row) for row in rows]) if p.length is not None else None
        columns.append(Columns(joined.astype(joined.dtype.newbyteorder("=")), counts))
    return columns


def _typed(element: Element, columns: list[Columns], source: str) -> list[Columns]:
    """The columns of a text, cast to the integer types that the header declares; other columns stay float64."""
    cast = []
    for (name, kind, _), (values, counts) in zip(element.properties, columns, strict=True):
        cast.append(Columns(typed(values, kind, f"{source}: {name[:40]}"), counts))
    return cast
