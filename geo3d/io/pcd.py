"""Point Cloud Library PCD files: text, binary and LZF-compressed binary."""

import math
from pathlib import Path

import numpy as np

from geo3d.errors import CloudError
from geo3d.io.files import read_bytes
from geo3d.io.layout import BROKEN, check_end, header_lines
from geo3d.io.names import Arrays, from_columns
from geo3d.io.numbers import count, numbers, plain, typed

KEYS = ("VERSION", "FIELDS", "COLUMNS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")
PACKED = ("rgb", "rgba")
WIDEST = 2**20
"""Most values a point may have."""
LZF_MOST = 88
"""Most bytes that one byte of LZF can expand to."""
TYPES = {"F": ("4", "8"), "I": ("1", "2", "4", "8"), "U": ("1", "2", "4", "8")}


def read_pcd(path: str | Path) -> Arrays:
    """``pos``, ``normal``, ``rgb`` (packed or not), ``point_y``, and all other fields as ``x``.

    Raises:
        CloudError: If the header cannot be understood, or the file holds less or more data than it declares.
    """
    source = str(path)
    content = read_bytes(path)
    fields, num_points, form, start = _header(content, source)
    row = np.dtype([(f"{i}", kind, (width,)) for i, (_, kind, width) in enumerate(fields)])
    if form == "ascii":
        columns = _text(plain(content, source)[start:], fields, num_points, source)
    elif form == "binary":
        complete = min(num_points, (len(content) - start) // row.itemsize)
        _check_complete(num_points, complete, source)
        rows = np.frombuffer(content, row, num_points, start)
        columns = [rows[f"{i}"] for i in range(len(fields))]
        check_end(content, start + num_points * row.itemsize, source)
    else:
        columns = _compressed(content, start, fields, num_points, source)
    named: list[tuple[str, np.ndarray]] = []
    for (name, _, width), values in zip(fields, columns, strict=True):
        if name in PACKED and width == 1:
            packed = _packed_colours(values[:, 0])
            named += [(key, packed[:, i]) for i, key in enumerate(("red", "green", "blue"))]
        else:
            named.append((name, values if width > 1 else values[:, 0]))
    return from_columns(named, source)


def _header(content: bytes, source: str) -> tuple[list[tuple[str, str, int]], int, str, int]:
    """Fields as (name, dtype, count), number of points, format of the data, and the offset at which they begin."""
    lines: dict[str, list[str]] = {}
    start = 0
    for line, after in header_lines(content):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if "\r" in line:
            raise CloudError(f"{source}: {BROKEN} {line[:80]!r}; the file is damaged")
        key = words[0].upper()
        if key not in KEYS or key in lines:
            raise CloudError(f"{source}: cannot understand the header line {line[:80]!r}")
        lines[key], start = words[1:], after
        if key == "DATA":
            break
    if "DATA" not in lines:
        raise CloudError(f"{source}: the header has no complete line DATA; the file is cut off or not PCD")
    fields = _fields(lines, source)
    form = " ".join(lines["DATA"]).lower()
    if form not in ("ascii", "binary", "binary_compressed"):
        raise CloudError(f"{source}: expected DATA ascii, binary or binary_compressed, found {form[:40]!r}")
    return fields, _num_points(lines, source), form, start


def _fields(lines: dict[str, list[str]], source: str) -> list[tuple[str, str, int]]:
    """Fields as (name, dtype, count)."""
    names = lines.get("FIELDS", lines.get("COLUMNS", []))
    sizes, types, counts = lines.get("SIZE", []), lines.get("TYPE", []), lines.get("COUNT", ["1"] * len(names))
    if not names or not len(names) == len(sizes) == len(types) == len(counts):
        raise CloudError(f"{source}: expected FIELDS, SIZE, TYPE and COUNT of the same length, found {lines}"[:300])
    fields = []
    for name, size, kind, width in zip(names, sizes, types, counts, strict=True):
        number = count(width, f"values of {name[:40]}", source)
        if size not in TYPES.get(kind.upper(), ()) or number < 1:
            what = f"type {kind[:9]!r}, size {size[:9]!r} and count {width!r}"
            raise CloudError(f"{source}: field {name[:40]} of {what} is unknown")
        fields.append((name, "<" + kind.lower() + size, number))
    if sum(number for _, _, number in fields) > WIDEST:
        raise CloudError(f"{source}: expected at most {WIDEST} values a point, found COUNT {' '.join(counts)}"[:300])
    return fields


def _num_points(lines: dict[str, list[str]], source: str) -> int:
    """The number of points, from POINTS or else WIDTH times HEIGHT; if both are there, they must agree."""
    sides = [
        count(word, "points in WIDTH and HEIGHT", source) for k in ("WIDTH", "HEIGHT") for word in lines.get(k, [])
    ]
    declared = lines.get("POINTS")
    if declared is None and not sides or declared is not None and len(declared) != 1:
        raise CloudError(f"{source}: expected the number of points in POINTS, found {declared}"[:300])
    points = count(declared[0], "points in POINTS", source) if declared else math.prod(sides)
    if sides and math.prod(sides) != points:
        raise CloudError(f"{source}: expected WIDTH x HEIGHT points, {math.prod(sides)}; found POINTS {points}")
    return points


def _check_complete(num_points: int, complete: int, source: str) -> None:
    if complete < num_points:
        raise CloudError(f"{source}: expected {num_points} points, file ends after {complete}")


def _text(body: bytes, fields: list[tuple[str, str, int]], num_points: int, source: str) -> list[np.ndarray]:
    """(N, count) columns, one per field, of text data."""
    width = sum(count for _, _, count in fields)
    lines = [line.split() for line in body.splitlines()]
    words = [word for line in lines for word in line]
    _check_complete(num_points, len(words) // width, source)
    if len(words) != num_points * width or any(len(line) not in (0, width) for line in lines):
        expected = f"expected {num_points} points, each a line of {width} numbers"
        raise CloudError(f"{source}: {expected}; found {len(words)} numbers or lines of other lengths")
    table = numbers(words, source).reshape(num_points, width)
    columns = []
    at = 0
    for name, kind, each in fields:
        values = typed(table[:, at : at + each], kind, f"{source}: {name[:40]}")
        if name in PACKED and values.dtype.kind == "f":
            if np.isnan(values).any():
                raise CloudError(f"{source}: packed colours that are NaN in text have lost their bits; leave them out")
            values = values.astype(kind)
        columns.append(values)
        at += each
    return columns


def _compressed(
    content: bytes, start: int, fields: list[tuple[str, str, int]], num_points: int, source: str
) -> list[np.ndarray]:
    """(N, count) columns, one per field, of compressed data, which store one field after another."""
    itemsize = sum(np.dtype(kind).itemsize * each for _, kind, each in fields)
    if len(content) < start + 8:
        _check_complete(num_points, 0, source)
        raise CloudError(f"{source}: expected two sizes before the compressed points, file ends before them")
    packed, size = np.frombuffer(content, "<u4", 2, start).tolist()
    if size != num_points * itemsize:
        raise CloudError(f"{source}: expected {num_points} points of {itemsize} bytes, found {size} bytes compressed")
    body = content[start + 8 : start + 8 + packed]
    if size > len(body) * LZF_MOST:
        raise CloudError(f"{source}: expected {num_points} points, but {len(body)} compressed bytes cannot hold them")
    raw = lzf_decompress(body, size)
    if len(raw) != size:
        reached = 0 if not itemsize else _reached(len(raw), fields, num_points)
        raise CloudError(f"{source}: expected {num_points} points, file ends after {reached} (compressed data damaged)")
    check_end(content, start + 8 + packed, source)
    columns = []
    at = 0
    for _, kind, each in fields:
        columns.append(np.frombuffer(raw, kind, num_points * each, at).reshape(num_points, each))
        at += np.dtype(kind).itemsize * num_points * each
    return columns


def _reached(size: int, fields: list[tuple[str, str, int]], num_points: int) -> int:
    """How many points are complete in the first ``size`` bytes of unpacked data, where the last field ends them."""
    last = np.dtype(fields[-1][1]).itemsize * fields[-1][2]
    before = sum(np.dtype(kind).itemsize * each for _, kind, each in fields[:-1]) * num_points
    return max(size - before, 0) // last


def lzf_decompress(body: bytes, size: int) -> bytes:
    """The bytes that Marc Lehmann's LZF compressed into ``body``; if ``body`` is damaged, not ``size`` of them.

    A control byte c below 32 is followed by c + 1 literal bytes. Any other control byte copies bytes that were already
    decompressed: its upper 3 bits are the length minus 2 (7 means that the next byte is added), its lower 5 bits are
    the upper bits of the distance.
    """
    out = bytearray()
    at = 0
    try:
        while at < len(body) and len(out) <= size:  # more than size bytes show that the data are damaged
            control = body[at]
            at += 1
            if control < 32:
                out += body[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += body[at]
                at += 1
            origin = len(out) - ((control & 31) << 8 | body[at]) - 1
            at += 1
            if origin < 0:
                break
            piece = bytes(out[origin : origin + length + 2])
            # a copy longer than its distance repeats the bytes in between
            out += (piece * (1 + (length + 2) // len(piece)))[: length + 2]
    except IndexError:  # the body ends inside an instruction
        pass
    return bytes(out)


def _packed_colours(values: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 colours, unpacked from 0xAARRGGBB in an integer or in the bits of a float."""
    if values.dtype.kind == "f":
        bits = values.astype("<f4").view("<u4")
    else:
        bits = (values.astype(np.int64) & 0xFFFFFFFF).astype("<u4")
    return np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], 1).astype(np.uint8)
