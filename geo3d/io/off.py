"""Triangle meshes and clouds from OFF files."""

import re
import warnings
from itertools import accumulate
from pathlib import Path

import numpy as np

from geo3d.errors import CloudError
from geo3d.io.files import read_bytes
from geo3d.io.mesh import check_faces, fan
from geo3d.io.names import Arrays
from geo3d.io.numbers import count, numbers, plain, shown, whole

KIND = re.compile(rb"(ST)?(C)?(N)?(4)?(n)?OFF")
CORNER = re.compile(rb"-?[0-9]{1,15}")
Faces = tuple[list[bytes], list[int]]
"""The corners of all polygons, and how many each has."""


def read_off(path: str | Path) -> Arrays:
    """``pos``, ``faces`` and what the vertices carry, from an OFF file (also COFF, NOFF, CNOFF, STOFF).

    The counts may be glued to the header, as in many files of ModelNet: ``OFF3514 3546 0``. Where vertices and faces
    do not have a line each, their numbers are read one after another.

    Raises:
        CloudError: If the file is not OFF, holds less or more than it declares, or has a face with a corner that does
            not exist.
    """
    source = str(path)
    lines = [bare for line in plain(read_bytes(path), source).splitlines() if (bare := line.split(b"#")[0].strip())]
    kind = KIND.match(lines[0]) if lines else None
    if kind is None:
        raise CloudError(f"{source}: expected an OFF file that begins with OFF, found {lines[:1]}"[:300])
    after = lines[0][kind.end() :].strip()
    if after.upper().startswith(b"BINARY"):
        raise CloudError(f"{source}: this is a binary OFF file; only the text form is read")
    if kind[4] or kind[5]:
        raise CloudError(f"{source}: {kind[0].decode()} announces other than three coordinates; expected OFF")
    body = [after, *lines[1:]] if after else lines[1:]
    words = body[0].split() if body else []
    if len(words) not in (2, 3):
        first = shown(b" ".join(words))
        raise CloudError(f"{source}: expected the numbers of vertices, faces and edges after OFF, found {first}")
    counts = [count(w.decode("ascii", "replace"), "vertices, faces and edges", source) for w in words]
    num_vertices, num_faces = counts[:2]
    rows = [line.split() for line in body[1:]]
    regular = len(rows) == num_vertices + num_faces and len({len(row) for row in rows[:num_vertices]}) <= 1
    if regular:
        width = len(rows[0]) if num_vertices else 3
        vertices = [word for row in rows[:num_vertices] for word in row]
        faces = _lines_of_faces(rows[num_vertices:], source)
    else:
        width, vertices, faces = _stream(rows, num_vertices, num_faces, kind, source)
    if width < 3:
        raise CloudError(f"{source}: expected {num_vertices} vertices of 3 numbers, found {width} in a line")
    found = _vertices(vertices, width, kind, source)
    corners, counts = faces
    if wrong := [word for word in corners if not CORNER.fullmatch(word)]:
        raise CloudError(f"{source}: expected faces of vertex numbers, found {shown(wrong[0])}")
    found["faces"] = fan(np.array(corners, dtype=bytes).astype(np.int64), np.array(counts, dtype=np.int64))
    check_faces(found["faces"], num_vertices, source)
    return found


def _widths(kind: re.Match[bytes]) -> tuple[int, ...]:
    """The numbers that a vertex may have: colours have three, or four with an opacity."""
    base = 3 + 3 * bool(kind[3]) + 2 * bool(kind[1])
    return (base + 3, base + 4) if kind[2] else (base,)


def _vertices(words: list[bytes], width: int, kind: re.Match[bytes], source: str) -> Arrays:
    """``pos``, ``normal`` and ``rgb`` of vertices of ``width`` numbers; places in a texture are left out."""
    rows = numbers(words, source).reshape(-1, width)
    found: Arrays = {"pos": rows[:, :3]}
    name = kind[0].decode()
    if width not in _widths(kind):
        if name != "OFF":
            raise CloudError(f"{source}: {name} announces vertices of {_widths(kind)[0]} numbers, found {width}")
        note = "were left out; begin the file with COFF if they are colours, NOFF if they are normals"
        warnings.warn(
            f"{source}: {width - 3} numbers behind each vertex that OFF does not announce {note}", stacklevel=2
        )
        return found
    first = 3
    if kind[3]:
        found["normal"], first = rows[:, 3:6], 6
    if kind[2]:
        colours = rows[:, first : first + 3]
        texts = [word for i in range(first, first + 3) for word in words[i::width]]
        # bytes are written without a point, fractions with one
        found["rgb"] = colours if any(b"." in text or b"n" in text for text in texts) else whole(colours, source)
    return found


def _lines_of_faces(rows: list[list[bytes]], source: str) -> Faces:
    """The polygons of lines "count, corners, perhaps a colour"."""
    counts = [count(row[0].decode("ascii", "replace"), "corners", source) for row in rows]
    for row, number in zip(rows, counts, strict=True):
        if len(row) - 1 - number not in (0, 1, 3, 4):
            raise CloudError(f"{source}: expected a face with {number} corners, found {shown(b' '.join(row[:9]))}")
        numbers(row[1 + number :], source)
    return [word for row, number in zip(rows, counts, strict=True) for word in row[1 : 1 + number]], counts


def _stream(
    rows: list[list[bytes]], num_vertices: int, num_faces: int, kind: re.Match[bytes], source: str
) -> tuple[int, list[bytes], Faces]:
    """Width, vertices and polygons of numbers one after another, which leave no room for the colours of faces.

    The vertices must end where a line does: otherwise one that lost a number would take it from the faces.
    """
    widths = _widths(kind)
    words = [word for row in rows for word in row]
    ends = {0, *accumulate(map(len, rows))}
    if len(words) < num_vertices * widths[0]:
        raise CloudError(f"{source}: expected {num_vertices} points, file ends after {len(words) // widths[0]}")
    read = [(each, _stream_of_faces(words[num_vertices * each :], num_faces)) for each in widths]
    fits = [
        (each, faces)
        for each, (faces, rest) in read
        if rest == 0 and len(faces[1]) == num_faces and num_vertices * each in ends
    ]
    if len(fits) == 1:
        width, faces = fits[0]
        return width, words[: num_vertices * width], faces
    width, (faces, rest) = read[0]
    if len(faces[1]) < num_faces:
        raise CloudError(f"{source}: expected {num_faces} faces, file ends after {len(faces[1])}")
    if rest == 0:
        raise CloudError(f"{source}: expected {num_vertices} vertices of {width} numbers, found lines of other lengths")
    raise CloudError(f"{source}: {rest} numbers are left over after {num_vertices} vertices and {num_faces} faces")


def _stream_of_faces(words: list[bytes], num_faces: int) -> tuple[Faces, int]:
    """The polygons that are there as a whole, and how many words are left over behind them."""
    corners: list[bytes] = []
    counts: list[int] = []
    at = 0
    while len(counts) < num_faces and at < len(words):
        number = int(words[at]) if re.fullmatch(rb"[0-9]{1,9}", words[at]) else len(words)
        if at + 1 + number > len(words):
            break
        corners += words[at + 1 : at + 1 + number]
        counts.append(number)
        at += 1 + number
    return (corners, counts), len(words) - at
