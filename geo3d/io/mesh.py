"""Triangle meshes from OFF and OBJ files, and what is common to all meshes."""

from pathlib import Path

import numpy as np

from geo3d.errors import CloudError
from geo3d.io.files import read_bytes
from geo3d.io.names import Arrays


def fan(corners: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(F, 3) triangles of polygons; each polygon is cut from its first corner.

    Args:
        corners: Vertex indices of all polygons, one after another.
        counts: Corners of each polygon; those with fewer than three have no triangle.

    Example:
        >>> fan(np.array([4, 5, 6, 7]), np.array([4])).tolist()
        [[4, 5, 6], [4, 6, 7]]
    """
    counts = counts.astype(np.int64)
    starts = np.cumsum(counts) - counts
    triangles = np.maximum(counts - 2, 0)
    first = np.repeat(starts, triangles)
    step = np.arange(triangles.sum()) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    return corners[np.stack([first, first + step + 1, first + step + 2], 1)].astype(np.int64)


def check_faces(faces: np.ndarray, num_vertices: int, source: str) -> None:
    """Nothing, if all corners exist.

    Raises:
        CloudError: If one does not.
    """
    if faces.size and (faces.min() < 0 or faces.max() >= num_vertices):
        bad = int(faces.min() if faces.min() < 0 else faces.max())
        raise CloudError(f"{source}: a face refers to vertex {bad} (counted from 0); the file has {num_vertices}")


def numbers(words: list[bytes], source: str) -> np.ndarray:
    """float64 values of the words.

    Raises:
        CloudError: If one is not a number.
    """
    try:
        return np.array(words, dtype=bytes).astype(np.float64) if words else np.zeros(0)
    except ValueError as error:
        raise CloudError(f"{source}: expected numbers: {error}") from error


def whole(values: np.ndarray, source: str) -> np.ndarray:
    """int64 of counts or indices that were read as numbers.

    Raises:
        CloudError: If one is no whole number.
    """
    fits = np.isfinite(values) & (np.abs(values) < 2**53)
    if not fits.all() or (values != np.round(values)).any():
        raise CloudError(f"{source}: expected counts and indices that are whole numbers, found others")
    return values.astype(np.int64)


def read_off(path: str | Path) -> Arrays:
    """``pos``, ``faces`` and what the vertices carry, from an OFF file (also COFF, NOFF, CNOFF).

    The counts may be glued to the header, as in many files of ModelNet: ``OFF3514 3546 0``.

    Raises:
        CloudError: If the file is not OFF, is cut off, or has a face with a corner that does not exist.
    """
    source = str(path)
    lines = [bare for line in read_bytes(path).splitlines() if (bare := line.split(b"#")[0].strip())]
    kind, _, after = lines[0].partition(b"OFF") if lines else (b"", b"", b"")
    if not lines or b"OFF" not in lines[0] or kind not in (b"", b"C", b"N", b"CN"):
        raise CloudError(f"{source}: expected an OFF file that begins with OFF, found {lines[:1]}")
    if after.strip().upper().startswith(b"BINARY"):
        raise CloudError(f"{source}: this is a binary OFF file; only the text form is read")
    body = [after, *lines[1:]] if after.strip() else lines[1:]
    counts = numbers(body[0].split(), source) if body else np.zeros(0)
    if len(counts) < 2 or not (counts[:2] >= 0).all():
        raise CloudError(f"{source}: expected the numbers of vertices, faces and edges after OFF, found {body[:1]}")
    num_vertices, num_faces = whole(counts[:2], source).tolist()
    vertices, polygons = body[1 : 1 + num_vertices], body[1 + num_vertices : 1 + num_vertices + num_faces]
    if len(vertices) < num_vertices:
        raise CloudError(f"{source}: expected {num_vertices} points, file ends after {len(vertices)}")
    if len(polygons) < num_faces:
        raise CloudError(f"{source}: expected {num_faces} faces, file ends after {len(polygons)}")
    width = len(vertices[0].split()) if vertices else 3
    values = numbers(b" ".join(vertices).split(), source)
    if width < 3 or values.size != num_vertices * width:
        raise CloudError(f"{source}: expected {num_vertices} vertices of {width} numbers, found {values.size} numbers")
    rows = values.reshape(num_vertices, width)
    found: Arrays = {"pos": rows[:, :3]}
    column = 3
    for letter, key in ((b"N", "normal"), (b"C", "rgb")):
        if letter in kind and width >= column + 3:
            found[key] = rows[:, column : column + 3]
            column += 3
    found["faces"] = _off_faces(polygons, source)
    check_faces(found["faces"], num_vertices, source)
    return found


def _off_faces(polygons: list[bytes], source: str) -> np.ndarray:
    """(F, 3) triangles of lines "count, corners, perhaps a colour"."""
    rows = [line.split() for line in polygons]
    counts = whole(numbers([row[0] for row in rows], source), source)
    for row, count in zip(rows, counts.tolist(), strict=True):
        if count < 0 or len(row) < 1 + count:
            raise CloudError(f"{source}: expected a face with {count} corners, found {b' '.join(row[:9])!r}")
    corners = [word for row, count in zip(rows, counts.tolist(), strict=True) for word in row[1 : 1 + count]]
    return fan(whole(numbers(corners, source), source), counts)


def read_obj(path: str | Path) -> Arrays:
    """``pos``, ``faces`` and colours and normals of the vertices, from a Wavefront OBJ file.

    Corners may be ``v``, ``v/vt``, ``v//vn`` or ``v/vt/vn``, counted from 1 or, negative, backwards. A vertex gets the
    mean of the normals of its corners; there is no ``normal`` unless every vertex has one.

    Raises:
        CloudError: If there is no vertex, a line is cut off, or a face has a corner that does not exist.
    """
    source = str(path)
    text = read_bytes(path).replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")
    vertices: list[list[bytes]] = []
    normals: list[list[bytes]] = []
    corners: list[tuple[int, int]] = []
    counts: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(b"#")[0].split()
        if not words:
            continue
        if words[0] in (b"v", b"vn"):
            if len(words) < 4:
                raise CloudError(f"{source}, line {number}: expected three numbers, found {line[:60]!r}")
            (vertices if words[0] == b"v" else normals).append(words[1:])
        elif words[0] == b"f":
            corners += [_corner(word, len(vertices), len(normals), f"{source}, line {number}") for word in words[1:]]
            counts.append(len(words) - 1)
    if not vertices:
        raise CloudError(f"{source}: expected lines 'v x y z', found none")
    found: Arrays = {"pos": numbers([w for v in vertices for w in v[:3]], source).reshape(-1, 3)}
    if all(len(v) >= 6 for v in vertices):
        found["rgb"] = numbers([w for v in vertices for w in v[3:6]], source).reshape(-1, 3)
    pairs = np.array(corners, dtype=np.int64).reshape(-1, 2)
    found["faces"] = fan(pairs[:, 0], np.array(counts, dtype=np.int64))
    check_faces(pairs[:, :1], len(vertices), source)
    directions = numbers([w for n in normals for w in n[:3]], source).reshape(-1, 3)
    if not counts and len(normals) == len(vertices):
        found["normal"] = directions
    elif normals and counts:
        pairs = pairs[pairs[:, 1] >= 0]
        if pairs.size and pairs[:, 1].max() >= len(normals):
            raise CloudError(f"{source}: a face refers to normal {pairs[:, 1].max() + 1}; the file has {len(normals)}")
        sums = np.zeros((len(vertices), 3))
        np.add.at(sums, pairs[:, 0], directions[pairs[:, 1]])
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        if (length > 0).all():
            found["normal"] = sums / length
    return found


def _corner(word: bytes, num_vertices: int, num_normals: int, source: str) -> tuple[int, int]:
    """Vertex and normal of one corner, counted from 0; the normal is -1 where there is none."""
    parts = word.split(b"/")
    try:
        vertex = int(parts[0])
        normal = int(parts[2]) if len(parts) > 2 and parts[2] else 0
    except ValueError as error:
        raise CloudError(f"{source}: expected a corner like 1, 1/2, 1//3 or 1/2/3, found {word[:40]!r}") from error
    if vertex == 0 or vertex < -num_vertices or normal < -num_normals:
        raise CloudError(f"{source}: a face refers to vertex {word[:40]!r}, which does not exist")
    return vertex - 1 if vertex > 0 else num_vertices + vertex, normal - 1 if normal >= 0 else num_normals + normal
