"""Tables of numbers in text: XYZ, ASC, TXT, PTS, CSV."""

import csv
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from geo3d.errors import CloudError
from geo3d.io.files import read_bytes
from geo3d.io.names import LABEL, TRIPLES, Arrays, axis_of, from_columns, from_rows
from geo3d.io.numbers import COUNT, is_number, numbers, plain, shown

Separator = bytes | None
BLANKS: Separator = None
"""With this separator, ``bytes.split`` splits at any number of blanks and tabs."""
CALLED = {BLANKS: "blanks", b",": "','", b";": "';'", b"\t": "tabs"}
NOTE = re.compile(rb"(?:^|(?<=\s))(#|//).*", re.DOTALL)
"""A comment at the beginning of a line or after a blank; elsewhere, as in ``1#2``, its mark is damage."""
ROWS = 2**15
"""Rows that are parsed at a time."""
KNOWN = {"id", "intensity", "scalar", "time", *LABEL, *(name for each in TRIPLES.values() for t in each for name in t)}


class Line(NamedTuple):
    """One line that is not blank, and its number, counted from 1."""

    number: int
    text: bytes


class Parts(NamedTuple):
    """The lines of a file by their role."""

    separator: Separator
    notes: list[Line]
    """The comment lines above the rows (with # or //); one of them may hold the names of the columns."""
    names: Line | None
    """The line above the rows in which no field is a number."""
    declared: Line | None
    """The line above the rows with a single whole number, the number of points."""
    rows: list[Line]
    """The rows of numbers, without comments."""


def read_table(path: str | Path) -> Arrays:
    """``pos`` and what the other columns hold, under geo3d's names.

    Columns are separated by commas, semicolons, tabs or blanks, by the same in all lines. A line of names above the
    rows (X, Y, Z; Easting (m), ...; nx, red, label, ...), which may begin with # or //, decides what the columns hold.
    Without names, the first three columns are the coordinates. The others are intensity and colours in a PTS file of
    seven columns; in all other files, ``from_rows`` decides. A single whole number on a line above the rows is the
    number of points. If commas do not separate columns, numbers may have decimal commas. An empty field is NaN.

    Raises:
        CloudError: If a line holds anything else (the message gives its number), the names are not understood, there
            are fewer than three columns, or the number of rows is not the declared one.
    """
    source = str(path)
    parts = _parts(_lines(read_bytes(path), source))
    expected = None if parts.declared is None else int(parts.declared.text)
    if not parts.rows:
        raise CloudError(f"{source}: expected {'some' if expected is None else expected} points, file ends after 0")
    first = _split(parts.rows[0].text, parts.separator)
    widths = {len(first), len(first) if first[-1] else len(first) - 1}  # a separator may end the line
    names = _names(parts, widths, source)
    width = len(names) or min(widths)
    if width < 3:
        found = f"found {width} in line {parts.rows[0].number}, {shown(parts.rows[0].text, 60)}"
        raise CloudError(f"{source}: expected three or more columns, {found}")
    rows = _numbers(parts, width, bool(names), source)
    if expected is not None and len(rows) != expected:
        found = f"file ends after {len(rows)}" if len(rows) < expected else f"found {len(rows)}"
        raise CloudError(f"{source}: expected {expected} points, {found}")
    if names:
        return _clear_colours(from_columns([(name, rows[:, i]) for i, name in enumerate(names)], source), source)
    if Path(path).suffix.lower() == ".pts" and width == 7:  # x y z intensity r g b, as scanners write it
        return _clear_colours({"pos": rows[:, :3], "x": rows[:, 3:4], "rgb": rows[:, 4:]}, source)
    return _clear_colours(from_rows(rows), source)


def read_rows(path: str | Path, width: int) -> np.ndarray:
    """(N, width) float64 numbers of a table without names, in which every row has ``width`` columns.

    For files whose columns are known beforehand, so that nothing has to be concluded from the numbers.

    Raises:
        CloudError: If the file is missing, or holds anything else.
    """
    source = str(path)
    parts = _parts(_lines(read_bytes(path), source))
    if not parts.rows or parts.names is not None or parts.declared is not None:
        raise CloudError(f"{source}: expected rows of {width} numbers and nothing above them; found something else")
    return _numbers(parts, width, False, source)


def _lines(content: bytes, source: str) -> list[Line]:
    """The lines that are not blank; they may end in line feeds, carriage returns or both."""
    if b"\0" in content[:1000]:
        raise CloudError(f"{source}: expected a table in plain text, found bytes of value 0; save it as UTF-8")
    text = plain(content, source).removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return [Line(i, line.strip(b" ")) for i, line in enumerate(text.split(b"\n"), 1) if line.strip()]


def _parts(lines: list[Line]) -> Parts:
    """The lines by their role."""
    bare = [Line(line.number, NOTE.sub(b"", line.text).rstrip(b" ")) for line in lines]
    filled = [line for line in bare if line.text]
    separator = _separator(filled[min((len(filled) + 1) // 2, len(filled) - 1)].text) if filled else BLANKS
    notes: list[Line] = []
    names: Line | None = None
    number: Line | None = None
    for i, (line, row) in enumerate(zip(lines, bare, strict=True)):
        if not row.text:
            notes.append(line)
        elif number is None and COUNT.fullmatch(row.text.strip().decode("ascii", "replace")):
            number = row
        elif names is None and not any(map(_is_number, _split(line.text, separator))):
            names = line
        else:
            return Parts(separator, notes, names, number, [row for row in bare[i:] if row.text])
    return Parts(separator, notes, names, number, [])


def _is_number(field: bytes) -> bool:
    """Whether the whole field is a number, with a decimal point or a decimal comma."""
    return is_number(field.replace(b",", b".", 1))


def _separator(row: bytes) -> Separator:
    """The separator of the fields in a row of numbers."""
    if b";" in row:
        return b";"
    for mark in (b"\t", b","):
        if mark in row and not any(len(field.split()) > 1 for field in row.split(mark)):
            return mark  # not between decimal commas, where the text contains blanks
    return BLANKS


def _split(line: bytes, separator: Separator) -> list[bytes]:
    """The fields of one line; separators inside quotes do not count."""
    if separator is BLANKS:
        return line.split()
    if b'"' in line:
        text, mark = line.decode("utf-8", "surrogateescape"), (separator or b" ").decode()
        try:
            quoted = next(csv.reader([text], delimiter=mark, skipinitialspace=True, strict=True), [])
        except csv.Error:  # too long, or damaged; as a single field it is refused later
            quoted = [text]
        return [field.strip().encode("utf-8", "surrogateescape") for field in quoted]
    return [field.strip() for field in line.split(separator)]


def _fields(line: bytes, separator: Separator) -> list[str]:
    """The names in one line, in lower case."""
    fields = _split(line.strip(b" ").lstrip(b"#/").strip(b" "), separator)
    fields = fields[:-1] if len(fields) > 1 and not fields[-1] else fields
    return [field.decode("utf-8", "replace").strip(' "').lower() for field in fields]


def _names(parts: Parts, widths: set[int], source: str) -> list[str]:
    """The lower-case names of the columns; empty if no line gives names.

    A comment gives the names if it has one word per column and names all three coordinates. A comment with the right
    number of words, or with several known names, is refused unless it is likely to be a sentence.
    """
    if parts.names is not None:
        names = _fields(parts.names.text, parts.separator)
        if len(names) not in widths:
            expected = f"expected {min(widths)} names separated by {CALLED[parts.separator]}, as the numbers are"
            found = f"found {len(names)}, {shown(parts.names.text, 80)}"
            raise CloudError(f"{source}, line {parts.names.number}: {expected}; {found}")
        return names
    for line in reversed(parts.notes):
        text = line.text.rpartition(b": ")[2]  # "# columns: x y z"
        names = _fields(text, parts.separator)
        axes = [axis_of(name)[0] for name in names]
        if any(_is_number(name.encode()) for name in names):
            continue
        if len(names) in widths and {*axes} >= {0, 1, 2}:
            return names
        meant = sum(axis is not None or name in KNOWN for axis, name in zip(axes, names, strict=True))
        likely = parts.separator is not BLANKS or min(widths) > 3
        if meant > 1 or likely and (len(names) in widths or meant and len(names) > 2):
            cure = "name the columns in it, or remove the line if it is a sentence"
            found = f"found {', '.join(names)}"[:200]
            expected = f"expected {min(widths)} names, x, y, z among them"
            raise CloudError(f"{source}, line {line.number}: {expected}; {found}; {cure}")
    return []


def _numbers(parts: Parts, width: int, named: bool, source: str) -> np.ndarray:
    """(N, width) float64 values of all rows."""
    separator, rows = parts.separator, parts.rows
    commas = separator != b"," and any(b"," in row.text for row in rows)
    if commas and any(b"." in row.text for row in rows):
        raise CloudError(
            f"{source}: found both '.' and ',' in numbers separated by {CALLED[separator]}; use one of them"
        )
    if separator == b"," and not named:
        _check_commas(rows, width, source)
    starts = range(0, len(rows), ROWS)
    return np.concatenate([_block(rows[i : i + ROWS], separator, width, commas, source) for i in starts])


def _block(rows: Sequence[Line], separator: Separator, width: int, commas: bool, source: str) -> np.ndarray:
    """(n, width) values of some rows."""
    words: list[bytes] = []
    for row in rows:
        fields = _split(row.text, separator)
        if len(fields) == width + 1 and not fields[-1]:
            del fields[-1]
        if len(fields) != width:
            expected = f"expected rows of numbers of the same length, {width} separated by {CALLED[separator]}"
            raise CloudError(f"{source}, line {row.number}: {expected}; found {len(fields)}, {shown(row.text, 60)}")
        words += fields
    if separator is not BLANKS:
        words = [word or b"nan" for word in words]
    if commas:
        words = [word if word[-1:] == b"," else word.replace(b",", b".", 1) for word in words]
    try:
        return numbers(words, source).reshape(-1, width)
    except CloudError:
        bad = next((i for i, word in enumerate(words) if not is_number(word)), None)
        if bad is None:  # too long
            raise
        line = rows[bad // width]
        expected = f"expected rows of numbers separated by {CALLED[separator]}"
        raise CloudError(f"{source}, line {line.number}: {expected}; found {shown(words[bad])}") from None


def _check_commas(rows: Sequence[Line], width: int, source: str) -> None:
    """Check that commas in a table without names separate columns, and cannot be decimal commas.

    Raises:
        CloudError: If they can: ``1,5,2,5,3,5`` may be six whole numbers, or three numbers with decimal commas.
    """
    if width < 6 or width % 2:
        return
    for row in rows:
        fields = row.text.strip(b" ,").split(b",")
        blanks = {field[:1] == b" " for field in fields[1:]}
        if blanks == {True} or not all(field.strip().lstrip(b"-").isdigit() for field in fields):
            return
        if any(field.strip()[:1] == b"-" for field in fields[1::2]):
            return
    raise CloudError(
        f"{source}: the commas may separate {width} whole numbers, or be the decimal commas of {width // 2}; "
        "name the columns in a first line, or use decimal points"
    )


def _clear_colours(arrays: Arrays, source: str) -> Arrays:
    """The arrays, without colours that are all 0 or 1: from text, these may be fractions or bytes."""
    rgb = arrays.get("rgb")
    if rgb is not None and rgb.any() and np.isin(rgb, (0, 1)).all():
        note = "colours of 0 and 1 alone may be fractions or bytes, and were left out; store the cloud as PLY"
        warnings.warn(f"{source}: {note}", stacklevel=2)
        del arrays["rgb"]
    return arrays
