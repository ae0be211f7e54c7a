"""Triangle meshes and clouds from Wavefront OBJ files."""

import re
from pathlib import Path

import numpy as np

from geo3d.errors import CloudError
from geo3d.io.files import read_bytes
from geo3d.io.mesh import check_faces, fan
from geo3d.io.names import Arrays
from geo3d.io.numbers import numbers, plain, shown

VERTEX = (3, 4, 6)
"""How many numbers may follow ``v``: coordinates alone, with a weight, or with a colour."""
CORNER = re.compile(rb"([+-]?[0-9]{1,15})(?:/[+-]?[0-9]{0,15}(?:/([+-]?[0-9]{1,15})?)?)?")
KEYWORDS = frozenset(
    b"v vt vn vp f fo l p g s o mg usemtl mtllib usemap maplib shadow_obj trace_obj lod bevel c_interp d_interp ctech "
    b"stech cstype deg bmat step curv curv2 surf parm trim hole scrv sp end con call csh bzp bsp cdc cdp res".split()
)
"""Words that may begin a line. Others are refused: skipping a damaged ``v`` would shift all later vertices."""


def read_obj(path: str | Path) -> Arrays:
    """``pos``, ``faces``, and ``rgb`` and ``normal`` of the vertices, from a Wavefront OBJ file.

    Corners may be ``v``, ``v/vt``, ``v//vn`` or ``v/vt/vn``, counted from 1, or backwards if negative. The normal of a
    vertex is the unit mean of the normals of its corners; ``normal`` is left out unless every vertex has one.

    Raises:
        CloudError: If there is no vertex, a line is cut off, or a face has a corner that does not exist.
    """
    source = str(path)
    text = plain(read_bytes(path), source).replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\\\n", b" ")
    vertices: list[list[bytes]] = []
    normals: list[list[bytes]] = []
    corners: list[tuple[int, int]] = []
    counts: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split(b"#")[0].split()
        if not words:
            continue
        if words[0] in (b"v", b"vn"):
            before, widths = (vertices, VERTEX) if words[0] == b"v" else (normals, (3,))
            if len(words) - 1 not in widths:
                raise CloudError(f"{source}, line {number}: expected three numbers, found {shown(line, 60)}")
            if before and len(before[-1]) != len(words) - 1:
                expected = f"expected {len(before[-1])} numbers, as in the vertices before"
                raise CloudError(f"{source}, line {number}: {expected}, found {shown(line, 60)}")
            before.append(words[1:])
        elif words[0] not in KEYWORDS:
            raise CloudError(f"{source}, line {number}: cannot understand {shown(line, 60)}")
        elif words[0] in (b"f", b"fo"):
            corners += [_corner(word, len(vertices), len(normals), f"{source}, line {number}") for word in words[1:]]
            counts.append(len(words) - 1)
    if not vertices:
        raise CloudError(f"{source}: expected lines 'v x y z', found none")
    rows = numbers([w for v in vertices for w in v], source).reshape(len(vertices), -1)
    arrays: Arrays = {"pos": rows[:, :3]}
    if rows.shape[1] == 6:
        arrays["rgb"] = rows[:, 3:]
    pairs = np.array(corners, dtype=np.int64).reshape(-1, 2)
    arrays["faces"] = fan(pairs[:, 0], np.array(counts, dtype=np.int64))
    check_faces(pairs[:, :1], len(vertices), source)
    directions = numbers([w for n in normals for w in n], source).reshape(-1, 3)
    if not counts and len(normals) == len(vertices):
        arrays["normal"] = directions
    elif normals and counts:
        pairs = pairs[pairs[:, 1] >= 0]
        if pairs.size and pairs[:, 1].max() >= len(normals):
            raise CloudError(f"{source}: a face refers to normal {pairs[:, 1].max() + 1}; the file has {len(normals)}")
        sums = np.zeros((len(vertices), 3))
        np.add.at(sums, pairs[:, 0], directions[pairs[:, 1]])
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        if (length > 0).all():
            arrays["normal"] = sums / length
    return arrays


def _corner(word: bytes, num_vertices: int, num_normals: int, source: str) -> tuple[int, int]:
    """Indices of the vertex and the normal of one corner, counted from 0; -1 if it has no normal."""
    parts = CORNER.fullmatch(word)
    if parts is None:
        raise CloudError(f"{source}: expected a corner like 1, 1/2, 1//3 or 1/2/3, found {shown(word)}")
    vertex, normal = int(parts[1]), int(parts[2] or 0)
    if vertex == 0 or vertex < -num_vertices or normal < -num_normals:
        raise CloudError(f"{source}: a face refers to vertex {shown(word)}, which does not exist")
    return vertex - 1 if vertex > 0 else num_vertices + vertex, normal - 1 if normal >= 0 else num_normals + normal
