"""The reading that a strict parser makes of a file, and the numbers that all formats have in common."""

import re
from typing import Any, NamedTuple

import numpy as np

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
DIGITS = 18  # most digits of counts and indices; no file needs more


class Reading(NamedTuple):
    """One possible content of a file: its coordinates and, if it has faces, its triangles."""

    pos: np.ndarray
    faces: list[tuple[int, int, int]] | None = None


class InvalidError(Exception):
    """A file that is not valid."""


def number(word: str) -> float:
    if NUMBER.fullmatch(word):
        return float(word)
    if NOT_FINITE.fullmatch(word):
        return float("nan")
    raise InvalidError(word[:40])


def count(word: str) -> int:
    if WHOLE.fullmatch(word) and len(word) <= DIGITS and int(word) >= 0:
        return int(word)
    raise InvalidError(word[:40])


def points(rows: Any) -> np.ndarray:
    """(N, 3) float64 coordinates, all of them finite in single precision."""
    with np.errstate(over="ignore"):
        pos = np.asarray(rows, dtype=np.float64).reshape(-1, 3)
        if not len(pos) or not np.isfinite(pos.astype(np.float32)).all():
            raise InvalidError("no points, or not finite")
    return pos


def fans(polygons: list[list[int]], vertices: int) -> list[tuple[int, int, int]]:
    if any(not 0 <= corner < vertices for polygon in polygons for corner in polygon):
        raise InvalidError("no such corner")
    return [(p[0], p[i], p[i + 1]) for p in polygons for i in range(1, len(p) - 1)]


def lines_of(text: str) -> list[str]:
    return re.split(r"\r\n|\n|\r", text)
