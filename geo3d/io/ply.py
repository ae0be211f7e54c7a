"""Stanford PLY files: text or binary of either byte order, elements and properties in any order."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from geo3d.errors import CloudError
from geo3d.io.files import read_bytes
from geo3d.io.mesh import check_faces, fan, numbers, whole
from geo3d.io.names import Arrays, from_columns

SCALARS = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"}
SCALARS |= {"float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2"}
SCALARS |= {"int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8"}
FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
CORNERS = ("vertex_indices", "vertex_index")


class Property(NamedTuple):
    """One ``property`` line: a number, or a list of numbers when its length has a kind too."""

    name: str
    kind: str
    length: str | None


class Element(NamedTuple):
    """One ``element`` line and the properties below it."""

    name: str
    size: int
    properties: list[Property]


class Columns(NamedTuple):
    """One property of all rows; a list's values lie one after another, ``counts`` a row."""

    values: np.ndarray
    counts: np.ndarray | None


def read_ply(path: str | Path) -> Arrays:
    """``pos``, ``faces`` if there are any, normals, colours, labels, and further properties as ``x``.

    Raises:
        CloudError: If the header cannot be understood, the file is cut off, or a face's corner does not exist.
    """
    source = str(path)
    content = read_bytes(path)
    order, elements, start = _header(content, source)
    words = content[start:].split() if not order else []
    found: Arrays = {}
    offset = 0 if not order else start
    for element in elements:
        if order:
            columns, offset = _binary(content, offset, order, element, source)
        else:
            columns, offset = _text(words, offset, element, source)
        if element.name == "vertex" and "pos" not in found:
            found |= from_columns({name: c.values for name, c in columns.items() if c.counts is None}, source)
        for name in CORNERS:
            if element.name == "face" and name in columns and element.size:
                corners, counts = columns[name]
                if counts is None:
                    raise CloudError(f"{source}: expected {name} to be a list property, found a number")
                found["faces"] = fan(whole(corners, source), counts)
    if "pos" not in found:
        raise CloudError(f"{source}: expected an element vertex, found {[e.name for e in elements]}")
    if "faces" in found:
        check_faces(found["faces"], len(found["pos"]), source)
    return found


def _header(content: bytes, source: str) -> tuple[str, list[Element], int]:
    """Byte order ("" for text), elements, and where the data begin."""
    if not content.startswith(b"ply"):
        raise CloudError(f"{source}: expected a PLY file that begins with ply, found {content[:16]!r}")
    at = content.find(b"end_header")
    start = content.find(b"\n", at) + 1
    if at < 0 or start == 0:
        raise CloudError(f"{source}: the header has no end_header; the file is cut off or not PLY")
    order: str | None = None
    elements: list[Element] = []
    for line in content[:at].decode("ascii", "replace").splitlines()[1:]:
        match line.split():
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", name, _] if name in FORMATS:
                order = FORMATS[name]
            case ["element", name, size] if size.isdigit():
                elements.append(Element(name, int(size), []))
            case ["property", "list", count, kind, name] if count in SCALARS and kind in SCALARS and elements:
                elements[-1].properties.append(Property(name, SCALARS[kind], SCALARS[count]))
            case ["property", kind, name] if kind in SCALARS and elements:
                elements[-1].properties.append(Property(name, SCALARS[kind], None))
            case _:
                raise CloudError(f"{source}: cannot understand the header line {line[:80]!r}")
    if order is None:
        raise CloudError(f"{source}: the header has no line 'format ascii|binary_little_endian|binary_big_endian 1.0'")
    return order, elements, start


def _cut_off(element: Element, rows: int, source: str) -> CloudError:
    what = {"vertex": "points", "face": "faces"}.get(element.name, f"rows of {element.name}")
    return CloudError(f"{source}: expected {element.size} {what}, file ends after {rows}")


def _binary(content: bytes, offset: int, order: str, element: Element, source: str) -> tuple[dict[str, Columns], int]:
    """The element's columns and where the next element begins."""
    if not element.properties or not element.size:
        return {}, offset
    lengths = [1] * len(element.properties)  # values a row has of each property
    at = offset
    for i, (_, kind, count) in enumerate(element.properties):
        if count is not None:  # as in the first row
            end = at + int(count[1])
            if end > len(content):
                raise _cut_off(element, 0, source)
            lengths[i] = max(int(np.frombuffer(content, order + count, 1, at)[0]), 0)
            at = end
        at += lengths[i] * int(kind[1])
        if at > len(content):
            raise _cut_off(element, 0, source)
    # f"{i}" and not the name, which may come twice
    fields: list[tuple] = []
    for i, (_, kind, count) in enumerate(element.properties):
        fields += [(f"n{i}", order + count)] if count is not None else []
        fields += [(f"{i}", order + kind, (lengths[i],))]
    row = np.dtype(fields)
    complete = min(element.size, (len(content) - offset) // row.itemsize)
    rows = np.frombuffer(content, row, complete, offset)
    lists = [i for i, p in enumerate(element.properties) if p.length is not None]
    if any((rows[f"n{i}"] != lengths[i]).any() for i in lists) or (lists and complete < element.size):
        return _ragged(content, offset, order, element, source)
    if complete < element.size:
        raise _cut_off(element, complete, source)
    columns = {}
    for i, (name, _, count) in enumerate(element.properties):
        values = rows[f"{i}"].reshape(-1)
        columns[name] = Columns(values.astype(values.dtype.newbyteorder("=")), rows[f"n{i}"] if count else None)
    return columns, offset + element.size * row.itemsize


def _ragged(content: bytes, offset: int, order: str, element: Element, source: str) -> tuple[dict[str, Columns], int]:
    """As ``_binary``, row by row: lists of different lengths leave no other way."""
    values: list[list[np.ndarray]] = [[] for _ in element.properties]
    for done in range(element.size):
        for i, (_, kind, count) in enumerate(element.properties):
            length = 1
            if count is not None:
                if offset + int(count[1]) > len(content):
                    raise _cut_off(element, done, source)
                length = max(int(np.frombuffer(content, order + count, 1, offset)[0]), 0)
                offset += int(count[1])
            if offset + length * int(kind[1]) > len(content):
                raise _cut_off(element, done, source)
            values[i].append(np.frombuffer(content, order + kind, length, offset))
            offset += length * int(kind[1])
    return _joined(element, values), offset


def _text(words: list[bytes], offset: int, element: Element, source: str) -> tuple[dict[str, Columns], int]:
    """As ``_binary``, for words."""
    width = len(element.properties)
    if not width or not element.size:
        return {}, offset
    if all(p.length is None for p in element.properties):
        block = words[offset : offset + element.size * width]
        if len(block) < element.size * width:
            raise _cut_off(element, len(block) // width, source)
        table = numbers(block, source).reshape(element.size, width)
        names = [p.name for p in element.properties]
        return {name: Columns(table[:, i], None) for i, name in enumerate(names)}, offset + len(block)
    values: list[list[np.ndarray]] = [[] for _ in element.properties]
    for done in range(element.size):
        for i, (_, _, count) in enumerate(element.properties):
            length = 1
            if count is not None:
                if offset >= len(words):
                    raise _cut_off(element, done, source)
                length = max(int(whole(numbers(words[offset : offset + 1], source), source)[0]), 0)
                offset += 1
            if offset + length > len(words):
                raise _cut_off(element, done, source)
            values[i].append(numbers(words[offset : offset + length], source))
            offset += length
    return _joined(element, values), offset


def _joined(element: Element, values: list[list[np.ndarray]]) -> dict[str, Columns]:
    columns = {}
    for (name, _, count), rows in zip(element.properties, values, strict=True):
        joined = np.concatenate(rows)
        counts = np.array([len(row) for row in rows]) if count is not None else None
        columns[name] = Columns(joined.astype(joined.dtype.newbyteorder("=")), counts)
    return columns
