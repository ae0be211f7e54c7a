"""PLY files: text, and binary in both byte orders."""

import io
import re
import struct
from collections.abc import Callable
from typing import Any

from readings import InvalidError, Reading, count, fans, number, points

KINDS = {"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4"}
KINDS |= {"double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"}
KINDS |= {"float32": "f4", "float64": "f8"}

Take = Callable[[str], float]
Element = tuple[str, int, list[tuple[str, str, str]]]
"""Name, number of rows, and for each property its name, its type and, for a list, the type of its length (else "")."""


def ply(content: bytes) -> list[Reading]:
    """The readings of a PLY file, one for each way in which lines of its header may end; none if it is not valid."""
    readings: list[Reading] = []
    one = b"\r\n|\n|\r"
    for ending in (b"\r?\n", b"\r", one):
        try:
            form, elements, start = header(content, ending)
            if ending != one or form == "text":  # in a binary file, a mixture of line ends would be ambiguous
                readings.append(reading(content[start:], form, elements))
        except (InvalidError, struct.error, UnicodeDecodeError):
            continue
    return readings


def header(content: bytes, ending: bytes) -> tuple[str, list[Element], int]:
    """Form of the data, the elements, and the offset of the data; ``ending`` is a pattern for line ends."""
    lines, start = [], 0
    while not lines or lines[-1] != b"end_header":
        end = re.compile(ending).search(content, start)
        if not end or len(lines) > 100:
            raise InvalidError("no end of the header")
        lines.append(content[start : end.start()].strip(b" \t"))
        start = end.end()
    if lines[0] != b"ply":
        raise InvalidError("not PLY")
    form = ""
    elements: list[Element] = []
    for raw in lines[1:-1]:
        if re.match(rb"\s*(comment|obj_info)\b", raw) or not raw:
            continue
        match raw.decode("latin-1").split():
            case ["format", name, _] if not form:
                form = {"ascii": "text", "binary_little_endian": "<", "binary_big_endian": ">"}.get(name, "")
            case ["element", name, size]:
                elements.append((name, count(size), []))
            case ["property", "list", length, kind, name] if elements and length in KINDS and kind in KINDS:
                elements[-1][2].append((name, KINDS[kind], KINDS[length]))
            case ["property", kind, name] if elements and kind in KINDS:
                elements[-1][2].append((name, KINDS[kind], ""))
            case _:
                raise InvalidError(repr(raw))
    if not form:
        raise InvalidError("no format")
    return form, elements, start


def reading(body: bytes, form: str, elements: list[Element]) -> Reading:
    """The vertices and faces of a file."""
    take, rest = _words(body) if form == "text" else _binaries(body, form)
    pos: list[list[float]] | None = None
    polygons: list[list[float]] | None = None
    for name, size, properties in elements:
        rows = [_row(take, properties) for _ in range(size if properties else 0)]
        if name == "vertex" and pos is None and rows:
            if any(not isinstance(rows[0].get(axis), float) for axis in "xyz"):
                raise InvalidError("no coordinates")
            pos = [[row[axis] for axis in "xyz"] for row in rows]
        lists = [key for key in ("vertex_indices", "vertex_index") if rows and isinstance(rows[0].get(key), list)]
        if name == "face" and lists:
            polygons = [row[lists[0]] for row in rows]
    if rest().strip():
        raise InvalidError("data are left over")
    if pos is None:
        raise InvalidError("no vertices")
    if polygons is None:
        return Reading(points(pos))
    if any(not abs(corner) < 2**53 or corner != int(corner) for polygon in polygons for corner in polygon):
        raise InvalidError("corners that are not whole")
    return Reading(points(pos), fans([[int(corner) for corner in polygon] for polygon in polygons], len(pos)))


def _row(take: Take, properties: list[tuple[str, str, str]]) -> dict[str, Any]:
    """Property name in lower case -> value, for one row."""
    row: dict[str, Any] = {}
    for name, kind, length in properties:
        value: Any = take(length or kind)
        if length:
            if not 0 <= value < 2**32 or value != int(value):
                raise InvalidError("a list of no length")
            value = [take(kind) for _ in range(int(value))]
        if name in ("x", "y", "z") and name in row:
            raise InvalidError("a coordinate twice")
        row[name.lower()] = value
    return row


def _words(body: bytes) -> tuple[Take, Callable[[], bytes]]:
    words = iter(re.split(rb"[ \t\r\n]+", body.strip(b" \t\r\n")))

    def take(_: str) -> float:
        word = next(words, None)
        if not word:
            raise InvalidError("cut off")
        return number(word.decode("ascii"))

    return take, lambda: b" ".join(words)


def _binaries(body: bytes, order: str) -> tuple[Take, Callable[[], bytes]]:
    letters = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}
    stream = io.BytesIO(body)

    def take(kind: str) -> float:
        form = order + letters[kind]
        return float(struct.unpack(form, stream.read(struct.calcsize(form)))[0])

    return take, lambda: stream.read()
