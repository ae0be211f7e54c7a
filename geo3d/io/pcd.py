"""Point Cloud Library PCD files: text, binary and LZF-compressed binary."""

from pathlib import Path

import numpy as np

from geo3d.errors import CloudError
from geo3d.io.files import read_bytes
from geo3d.io.mesh import numbers
from geo3d.io.names import Arrays, from_columns

TYPES = {"F": ("4", "8"), "I": ("1", "2", "4", "8"), "U": ("1", "2", "4", "8")}


def read_pcd(path: str | Path) -> Arrays:
    """``pos``, normals, colours (packed or not), labels, and further fields as ``x``.

    Raises:
        CloudError: If the header cannot be understood or the file is cut off.
    """
    source = str(path)
    content = read_bytes(path)
    fields, num_points, form, start = _header(content, source)
    row = np.dtype([(f"{i}", kind, (count,)) for i, (_, kind, count) in enumerate(fields)])
    if form == "ascii":
        columns = _text(content[start:], fields, num_points, source)
    elif form == "binary":
        complete = min(num_points, (len(content) - start) // row.itemsize)
        _check_complete(num_points, complete, source)
        rows = np.frombuffer(content, row, num_points, start)
        columns = [rows[f"{i}"] for i in range(len(fields))]
    else:
        columns = _compressed(content, start, fields, num_points, source)
    named: dict[str, np.ndarray] = {}
    for (name, _, count), values in zip(fields, columns, strict=True):
        if name in ("rgb", "rgba") and count == 1:
            packed = _packed_colours(values[:, 0])
            named |= {key: packed[:, i] for i, key in enumerate(("red", "green", "blue"))}
        else:
            named[name] = values if count > 1 else values[:, 0]
    return from_columns(named, source)


def _header(content: bytes, source: str) -> tuple[list[tuple[str, str, int]], int, str, int]:
    """Fields as (name, dtype, count), number of points, form of the data, and where they begin."""
    lines: dict[str, list[str]] = {}
    start = 0
    while "DATA" not in lines:
        end = content.find(b"\n", start)
        if end < 0:
            raise CloudError(f"{source}: the header has no complete line DATA; the file is cut off or not PCD")
        words = content[start:end].decode("ascii", "replace").split()
        if words and not words[0].startswith("#"):
            lines[words[0].upper()] = words[1:]
        start = end + 1
    names = lines.get("FIELDS", lines.get("COLUMNS", []))
    sizes, types, counts = lines.get("SIZE", []), lines.get("TYPE", []), lines.get("COUNT", ["1"] * len(names))
    points = lines.get("POINTS") or [w for key in ("WIDTH", "HEIGHT") for w in lines.get(key, [])]
    if not names or not len(names) == len(sizes) == len(types) == len(counts):
        raise CloudError(f"{source}: expected FIELDS, SIZE, TYPE and COUNT of the same length, found {lines}"[:300])
    fields = []
    for name, size, kind, count in zip(names, sizes, types, counts, strict=True):
        if size not in TYPES.get(kind.upper(), ()) or not count.isdigit() or not 1 <= int(count) < 2**20:
            raise CloudError(f"{source}: field {name} of type {kind!r}, size {size!r} and count {count!r} is unknown")
        fields.append((name, "<" + kind.lower() + size, int(count)))
    if not points or not all(word.isdigit() for word in points):
        raise CloudError(f"{source}: expected the number of points in POINTS, found {points}")
    form = " ".join(lines["DATA"]).lower()
    if form not in ("ascii", "binary", "binary_compressed"):
        raise CloudError(f"{source}: expected DATA ascii, binary or binary_compressed, found {form!r}")
    return fields, int(np.prod([int(word) for word in points], dtype=object)), form, start


def _check_complete(num_points: int, complete: int, source: str) -> None:
    if complete < num_points:
        raise CloudError(f"{source}: expected {num_points} points, file ends after {complete}")


def _text(body: bytes, fields: list[tuple[str, str, int]], num_points: int, source: str) -> list[np.ndarray]:
    """Columns (N, count) of the text form."""
    width = sum(count for _, _, count in fields)
    words = body.split()
    _check_complete(num_points, len(words) // width, source)
    table = numbers(words[: num_points * width], source).reshape(num_points, width)
    columns = []
    at = 0
    for name, kind, count in fields:
        values = table[:, at : at + count]
        if name in ("rgb", "rgba"):
            with np.errstate(all="ignore"):
                values = values.astype(kind)
        columns.append(values)
        at += count
    return columns


def _compressed(
    content: bytes, start: int, fields: list[tuple[str, str, int]], num_points: int, source: str
) -> list[np.ndarray]:
    """Columns (N, count) of the compressed form, which stores one field after another."""
    itemsize = sum(np.dtype(kind).itemsize * count for _, kind, count in fields)
    if len(content) < start + 8:
        _check_complete(num_points, 0, source)
        raise CloudError(f"{source}: expected two sizes before the compressed points, file ends before them")
    packed, size = np.frombuffer(content, "<u4", 2, start).tolist()
    if size != num_points * itemsize:
        raise CloudError(f"{source}: expected {num_points} points of {itemsize} bytes, found {size} bytes compressed")
    body = content[start + 8 : start + 8 + packed]
    raw = lzf_decompress(body, size)
    if len(raw) != size:
        reached = 0 if not itemsize else _reached(len(raw), fields, num_points)
        raise CloudError(f"{source}: expected {num_points} points, file ends after {reached} (compressed data damaged)")
    columns = []
    at = 0
    for _, kind, count in fields:
        columns.append(np.frombuffer(raw, kind, num_points * count, at).reshape(num_points, count))
        at += np.dtype(kind).itemsize * num_points * count
    return columns


def _reached(size: int, fields: list[tuple[str, str, int]], num_points: int) -> int:
    """How many points have all their fields in the first ``size`` bytes: those that the last field has."""
    last = np.dtype(fields[-1][1]).itemsize * fields[-1][2]
    before = sum(np.dtype(kind).itemsize * count for _, kind, count in fields[:-1]) * num_points
    return max(size - before, 0) // last


def lzf_decompress(body: bytes, size: int) -> bytes:
    """The bytes that Marc Lehmann's LZF packed into ``body``; fewer than ``size`` if it is damaged.

    A control byte below 32 announces that many plus one literal bytes; any other holds a length (upper 3 bits, 7 means
    that another byte is added to it) and the upper 5 bits of a distance back into what was unpacked already.
    """
    out = bytearray()
    at = 0
    try:
        while at < len(body) and len(out) < size:
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
            # a copy that reaches into itself repeats
            out += (piece * (1 + (length + 2) // len(piece)))[: length + 2]
    except IndexError:  # the body ends inside an instruction
        pass
    return bytes(out)


def _packed_colours(values: np.ndarray) -> np.ndarray:
    """(N, 3) uint8 of colours packed as 0xAARRGGBB into an integer or into the bits of a float."""
    if values.dtype.kind == "f":
        bits = values.astype("<f4").view("<u4")
    else:
        bits = (values.astype(np.int64) & 0xFFFFFFFF).astype("<u4")
    return np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], 1).astype(np.uint8)
