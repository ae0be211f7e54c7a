"""Text files with a table of numbers."""

import re

import numpy as np
from readings import NOT_FINITE, NUMBER, WHOLE, InvalidError, Reading, count, lines_of, number, points

MAPS = {"easting": "x", "east": "x", "northing": "y", "north": "y", "height": "z", "elevation": "z", "altitude": "z"}
"""Names of the coordinates in surveying -> axes."""


def table(content: bytes) -> list[Reading]:
    """The readings of rows of numbers with one separator; column names or the number of rows may precede them."""
    lines = [line.strip(" ") for line in lines_of(content.decode("utf-8-sig", "replace"))]
    lines = [line for line in lines if line.strip()]  # tabs stay: the field behind the last one may be empty
    readings: list[Reading] = []
    for separator in (None, "\t", ",", ";"):
        for comma in (False, True) if separator != "," else (False,):
            try:
                reading = _rows(lines, separator, comma)
            except InvalidError:
                continue
            if not any(np.array_equal(reading.pos, other.pos) for other in readings):
                readings.append(reading)
    return readings


def _rows(lines: list[str], separator: str | None, comma: bool) -> Reading:
    named = [line for line in lines if line.lstrip().startswith(("#", "//"))]
    body = [re.split(r"\s(?:#|//)", line)[0].rstrip(" ") for line in lines if line not in named]
    names = _fields(named[0].lstrip("#/ \t"), separator) if named and lines[0] == named[0] else []
    if body and not any(map(_numeric, _fields(body[0], separator))):
        names, body = _fields(body[0], separator), body[1:]
        explicit = True
    else:
        explicit = False
    declared = count(body.pop(0)) if body and WHOLE.fullmatch(body[0]) else None
    if comma and (not any("," in line for line in body) or any("." in line for line in body)):
        raise InvalidError("no decimal commas")
    rows = [
        [_value(field.replace(",", ".") if comma else field, separator) for field in _fields(line, separator)]
        for line in body
    ]
    if not rows or len({len(row) for row in rows}) != 1 or len(rows[0]) < 3:
        raise InvalidError("rows of different lengths")
    if declared is not None and declared != len(rows):
        raise InvalidError("another number of rows is declared")
    places = [0, 1, 2]
    if explicit or (len(names) == len(rows[0]) and not any(map(_numeric, names))):
        plain = [re.sub(r"\s*[(\[].*[)\]]$", "", name.strip("\"' ")).lower() for name in names]
        if not {*"xyz"} <= {*plain}:  # with x, y and z in the table, a height is a column like any other
            plain = [MAPS.get(name, name) for name in plain]
        if len(plain) != len(rows[0]) or [plain.count(axis) for axis in "xyz"] != [1, 1, 1]:
            raise InvalidError("names that are not understood")
        places = [plain.index(axis) for axis in "xyz"]
    return Reading(points([[row[i] for i in places] for row in rows]))


def _fields(line: str, separator: str | None) -> list[str]:
    return line.split() if separator is None else [field.strip(" \t") for field in line.split(separator)]


def _value(field: str, separator: str | None) -> float:
    """The number in a field, perhaps in quotes; an empty field between two separators is a missing value."""
    if separator is None:
        return number(field)
    field = field[1:-1] if len(field) > 2 and field[0] == field[-1] == '"' else field
    return number(field) if field else float("nan")


def _numeric(field: str) -> bool:
    return bool(NUMBER.fullmatch(field.replace(",", ".")) or NOT_FINITE.fullmatch(field))
