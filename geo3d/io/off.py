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
"""The corners of all polygons, and the number of corners of each."""


def read_off(path: str | Path) -> Arrays:
    """``pos``, ``faces``, and ``rgb`` and ``normal`` of the vertices, from an OFF file (also COFF, NOFF, CNOFF, STOFF).

    The counts may follow the header without a space, as in many files of ModelNet: ``OFF3514 3546 0``. If vertices and
    faces do not have one line each, their numbers are read as one stream.

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
        raise CloudError(f"{source}: expected three coordinates per vertex (OFF), found {kind[0].decode()}")
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
    arrays = _vertices(vertices, width, kind, source)
    corners, counts = faces
    if wrong := [word for word in corners if not CORNER.fullmatch(word)]:
        raise CloudError(f"{source}: expected faces of vertex numbers, found {shown(wrong[0])}")
    arrays["faces"] = fan(np.array(corners, dtype=bytes).astype(np.int64), np.array(counts, dtype=np.int64))
    check_faces(arrays["faces"], num_vertices, source)
    return arrays


def _widths(kind: re.Match[bytes]) -> tuple[int, ...]:
    """How many numbers a vertex may have; a colour has three, or four with an opacity."""
    base = 3 + 3 * bool(kind[3]) + 2 * bool(kind[1])
    return (base + 3, base + 4) if kind[2] else (base,)


def _vertices(words: list[bytes], width: int, kind: re.Match[bytes], source: str) -> Arrays:
    """``pos``, ``normal`` and ``rgb`` of vertices of ``width`` numbers; texture coordinates are left out."""
    rows = numbers(words, source).reshape(-1, width)
    arrays: Arrays = {"pos": rows[:, :3]}
    name = kind[0].decode()
    if width not in _widths(kind):
        if name != "OFF":
            raise CloudError(f"{source}: {name} declares vertices of {_widths(kind)[0]} numbers, found {width}")
        note = "were left out, as OFF does not declare them; begin the file with COFF for colours, NOFF for normals"
        warnings.warn(f"{source}: {width - 3} numbers behind each vertex {note}", stacklevel=2)
        return arrays
    first = 3
    if kind[3]:
        arrays["normal"], first = rows[:, 3:6], 6
    if kind[2]:
        colours = rows[:, first : first + 3]
        texts = [word for i in range(first, first + 3) for word in words[i::width]]
        # bytes are written without a point, fractions with one
        arrays["rgb"] = colours if any(b"." in text or b"n" in text for text in texts) else whole(colours, source)
    return arrays


def _lines_of_faces(rows: list[list[bytes]], source: str) -> Faces:
    """The polygons, from lines of the form "count, corners, perhaps a colour"."""
    counts = [count(row[0].decode("ascii", "replace"), "corners", source) for row in rows]
    for row, number in zip(rows, counts, strict=True):
        if len(row) - 1 - number not in (0, 1, 3, 4):
            raise CloudError(f"{source}: expected a face with {number} corners, found {shown(b' '.join(row[:9]))}")
        numbers(row[1 + number :], source)
    return [word for row, number in zip(rows, counts, strict=True) for word in row[1 : 1 + number]], counts


def _stream(
    rows: list[list[bytes]], num_vertices: int, num_faces: int, kind: re.Match[bytes], source: str
) -> tuple[int, list[bytes], Faces]:
    """Width, vertices and polygons, from one stream of numbers, in which faces cannot have colours.

    The last vertex must end at the end of a line: otherwise a vertex that lost a number would take one from the faces.
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
    """The complete polygons, and how many words are left over after them."""
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
