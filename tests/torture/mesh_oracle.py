"""OFF and OBJ files."""

import re

from readings import DIGITS, WHOLE, InvalidError, Reading, count, fans, lines_of, number, points

OBJ_WORDS = {"vt", "vp", "l", "p", "g", "o", "s", "mg", "usemtl", "mtllib", "lod", "maplib", "usemap", "deg", "cstype"}


def off(content: bytes) -> list[Reading]:
    """The readings of an OFF file: one vertex or face per line, or a sequence of words; comments are skipped."""
    lines = [line.split("#")[0].split() for line in lines_of(content.decode("latin-1"))]
    lines = [line for line in lines if line]
    head = re.fullmatch(r"(ST)?(C?)(N?)OFF(\d*)", lines[0][0]) if lines else None
    if not head:
        return []
    lines[0] = ([head[4]] if head[4] else []) + lines[0][1:]
    found = []
    for read in (_off_lines, _off_words):
        try:
            found.append(read([line for line in lines if line], bool(head[1] or head[2] or head[3])))
        except InvalidError:
            continue
    return found


def _off_lines(lines: list[list[str]], _: bool) -> Reading:
    if not lines or len(lines[0]) not in (2, 3):
        raise InvalidError("counts")
    vertices, faces = (count(word) for word in lines[0][:2])
    if len(lines) != 1 + vertices + faces:
        raise InvalidError("another number of lines")
    rows = [[number(word) for word in line] for line in lines[1 : 1 + vertices]]
    if not rows or len({len(row) for row in rows}) != 1 or len(rows[0]) < 3:
        raise InvalidError("rows of different lengths")
    polygons = []
    for line in lines[1 + vertices :]:
        corners = count(line[0])
        if len(line) < 1 + corners or len(line) > 1 + corners + 4:
            raise InvalidError("a face of another length")
        [number(word) for word in line[1 + corners :]]
        polygons.append([count(word) for word in line[1 : 1 + corners]])
    return Reading(points([row[:3] for row in rows]), fans(polygons, vertices))


def _off_words(lines: list[list[str]], more: bool) -> Reading:
    words = iter([word for line in lines for word in line])
    if more:  # vertices have colours or normals, so that only lines separate them from faces
        return _off_points([word for line in lines for word in line])

    def take() -> str:
        word = next(words, None)
        if word is None:
            raise InvalidError("cut off")
        return word

    vertices, faces, _ = count(take()), count(take()), count(take())
    pos = points([[number(take()) for _ in range(3)] for _ in range(vertices)])
    polygons = [[count(take()) for _ in range(count(take()))] for _ in range(faces)]
    if next(words, None) is not None:
        raise InvalidError("data are left over")
    return Reading(pos, fans(polygons, vertices))


def _off_points(words: list[str]) -> Reading:
    if len(words) < 4:
        raise InvalidError("no counts")
    vertices, faces = count(words[0]), count(words[1])
    count(words[2])
    values = [number(word) for word in words[3:]]
    if faces or not vertices or len(values) % vertices or not 3 <= len(values) // vertices <= 10:
        raise InvalidError("colours and normals need lines")
    width = len(values) // vertices
    return Reading(points([values[i * width : i * width + 3] for i in range(vertices)]), [])


def obj(content: bytes) -> list[Reading]:
    """The reading of an OBJ file: vertices with equally many numbers, and faces with indices from 1, or negative."""
    try:
        return [_obj(content)]
    except InvalidError:
        return []


def _obj(content: bytes) -> Reading:
    text = re.sub(r"\\(\r\n|\n|\r)", " ", content.decode("latin-1"))
    rows, polygons = [], []
    for line in lines_of(text):
        match line.split("#")[0].split():
            case []:
                pass
            case ["v", *words]:
                rows.append([number(word) for word in words])
            case ["vn", *words]:
                if len([number(word) for word in words]) != 3:
                    raise InvalidError("a normal of another length")
            case ["f", *words]:
                polygons.append([_corner(word, len(rows)) for word in words])
            case [word, *_] if word not in OBJ_WORDS:
                raise InvalidError(f"no such statement: {word[:20]}")
    if len({len(row) for row in rows}) != 1 or len(rows[0]) not in (3, 4, 6, 7):
        raise InvalidError("vertices of different lengths")
    return Reading(points([row[:3] for row in rows]), fans(polygons, len(rows)))


def _corner(word: str, vertices: int) -> int:
    parts = word.split("/")
    if len(parts) > 3 or not WHOLE.fullmatch(parts[0]) or len(word) > DIGITS:
        raise InvalidError(word[:40])
    for part in parts[1:]:
        if part and not WHOLE.fullmatch(part):
            raise InvalidError(word[:40])
    index = int(parts[0])
    if index == 0 or index < -vertices:
        raise InvalidError(word[:40])
    return index - 1 if index > 0 else vertices + index
