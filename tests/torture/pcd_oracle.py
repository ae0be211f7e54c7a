"""PCD files: text, binary and compressed."""

import re
import struct
from typing import NamedTuple

import numpy as np
from readings import InvalidError, Reading, count, number, points

LETTERS = {"F": {4: "f", 8: "d"}, "I": {1: "b", 2: "h", 4: "i", 8: "q"}, "U": {1: "B", 2: "H", 4: "I", 8: "Q"}}


class Fields(NamedTuple):
    """The header of a PCD file (for each field its name, ``struct`` letter and count), and the bytes behind it."""

    names: list[str]
    letters: list[str]
    counts: list[int]
    size: int
    form: str
    body: bytes

    @property
    def row(self) -> str:
        """The ``struct`` format of one point."""
        return "<" + "".join(letter * many for letter, many in zip(self.letters, self.counts, strict=True))

    def places(self) -> list[int]:
        """Positions of x, y and z among the values of a point."""
        return [sum(self.counts[: self.names.index(axis)]) for axis in "xyz"]


def pcd(content: bytes) -> list[Reading]:
    """The reading of a PCD file; none if it is not valid."""
    try:
        fields = header(content)
        read = {"ascii": _text, "binary": _binary, "binary_compressed": _compressed}[fields.form]
        return [Reading(points(read(fields)))]
    except (InvalidError, KeyError, struct.error, UnicodeDecodeError, IndexError):
        return []


def header(content: bytes) -> Fields:
    """The header and the bytes behind it; unknown lines of the header are ignored."""
    lines: dict[str, list[str]] = {}
    start = 0
    while "DATA" not in lines:
        match = re.compile(rb"([^\r\n]*)(\r\n|\n|\r)").match(content, start)
        if not match:
            raise InvalidError("no DATA")
        start = match.end()
        raw = match[1].strip()
        if raw and not raw.startswith(b"#"):
            words = raw.decode("ascii", "replace").split()
            if lines.setdefault(words[0].upper(), words[1:]) != words[1:]:
                raise InvalidError(f"two different lines {words[0]}")
    names = [name.lower() for name in lines.get("FIELDS") or lines.get("COLUMNS") or []]
    sizes, kinds = [count(word) for word in lines.get("SIZE", [])], lines.get("TYPE", [])
    counts = [count(word) for word in lines.get("COUNT", ["1"] * len(names))]
    if sum(counts) > len(content):  # otherwise a format of this many letters could fill the memory
        raise InvalidError("more values than bytes")
    if not names or not len(names) == len(sizes) == len(kinds) == len(counts) or not all(counts):
        raise InvalidError("fields")
    letters = [LETTERS.get(kind.upper(), {}).get(size, "") for kind, size in zip(kinds, sizes, strict=True)]
    if not all(letters) or any(names.count(axis) != 1 or counts[names.index(axis)] != 1 for axis in "xyz"):
        raise InvalidError("coordinates")
    return Fields(names, letters, counts, _size(lines), " ".join(lines["DATA"]).lower(), content[start:])


def _size(lines: dict[str, list[str]]) -> int:
    shape = [count(word) for key in ("WIDTH", "HEIGHT") for word in lines.get(key, [])]
    product = [shape[0] * shape[1]] if len(shape) == 2 else []
    declared = [count(word) for word in lines.get("POINTS", [])]
    if len({*product, *declared}) != 1 or len(declared) > 1:
        raise InvalidError("counts that do not agree, or none")
    return (declared or product)[0]


def _text(fields: Fields) -> list[list[float]]:
    words, width = fields.body.split(), sum(fields.counts)
    if len(words) != fields.size * width:
        raise InvalidError("another number of values")
    values = [number(word.decode("ascii")) for word in words]
    return [[values[i * width + place] for place in fields.places()] for i in range(fields.size)]


def _binary(fields: Fields) -> list[list[float]]:
    length = struct.calcsize(fields.row)
    if len(fields.body) < fields.size * length or fields.body[fields.size * length :].strip():
        raise InvalidError("another number of bytes")
    rows = [struct.unpack_from(fields.row, fields.body, i * length) for i in range(fields.size)]
    return [[row[place] for place in fields.places()] for row in rows]


def _compressed(fields: Fields) -> np.ndarray:
    packed, length = struct.unpack_from("<II", fields.body)
    if length != fields.size * struct.calcsize(fields.row) or len(fields.body) < 8 + packed:
        raise InvalidError("another number of bytes")
    if fields.body[8 + packed :].strip():
        raise InvalidError("data are left over")
    raw = lzf(fields.body[8 : 8 + packed], length)
    columns, at = {}, 0
    for name, letter, many in zip(fields.names, fields.letters, fields.counts, strict=True):
        form = f"<{fields.size * many}{letter}"
        columns[name] = struct.unpack_from(form, raw, at)
        at += struct.calcsize(form)
    return np.stack([columns[axis] for axis in "xyz"], 1)


def lzf(body: bytes, length: int) -> bytes:
    out, at = bytearray(), 0
    while at < len(body):
        control = body[at]
        at += 1
        if control < 32:
            if at + control + 1 > len(body):
                raise InvalidError("cut off")
            out += body[at : at + control + 1]
            at += control + 1
            continue
        many = control >> 5
        if many == 7:
            many += body[at]
            at += 1
        back = ((control & 31) << 8 | body[at]) + 1
        at += 1
        if back > len(out):
            raise InvalidError("before the beginning")
        for _ in range(many + 2):
            out.append(out[-back])
    if len(out) != length:
        raise InvalidError("another length")
    return bytes(out)
