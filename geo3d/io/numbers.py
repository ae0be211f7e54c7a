"""Strict parsing of numbers in text, the same for every format: sign, digits, point, exponent, or nan and inf."""

import re
from collections.abc import Sequence

import numpy as np

from geo3d.errors import CloudError

LONGEST = 400
"""Most characters of a number; the longest that programs write, 1e308 with all its digits, has 317."""
VALUE = b"0123456789+-.eE" + b"naifytNAIFYT"
COUNT = re.compile(r"[0-9]{1,15}")
CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Only damaged text contains these bytes; ``bytes.split`` would take some of them for blanks."""


def plain(content: bytes, source: str) -> bytes:
    r"""The content, after a check that its only control characters are tabs and line ends.

    Raises:
        CloudError: If it has others; the message names the line.

    Example:
        >>> plain(b"1 2 3\n", "a.xyz")
        b'1 2 3\n'
    """
    if match := CONTROL.search(content):
        line = len(content[: match.end()].splitlines())
        raise CloudError(f"{source}, line {line}: expected plain text, found a byte of value {match[0][0]}")
    return content


def numbers(words: Sequence[bytes], source: str) -> np.ndarray:
    """(n,) float64 values of n words.

    Raises:
        CloudError: If one is not a number, or has more than 400 characters. ``5_0`` is not a number, although Python
            accepts it: no file format does.

    Example:
        >>> numbers([b"1", b"-2.5e1"], "a.xyz").tolist()
        [1.0, -25.0]
    """
    for word in words if b" ".join(words).translate(None, VALUE + b" ") else ():
        if word.translate(None, VALUE):
            raise CloudError(f"{source}: expected numbers, found {shown(word)}")
    if max(map(len, words), default=0) > LONGEST:
        longest = max(words, key=len)
        raise CloudError(f"{source}: expected numbers, found one of {len(longest)} characters, {shown(longest)}")
    try:
        return np.fromiter(map(float, words), np.float64, len(words))
    except ValueError:
        wrong = next(word for word in words if not is_number(word))
        raise CloudError(f"{source}: expected numbers, found {shown(wrong)}") from None


def is_number(word: bytes) -> bool:
    """Whether the whole word is a number, of any length."""
    if not word or word.translate(None, VALUE):
        return False
    try:
        float(word)
    except ValueError:
        return False
    return True


def whole(values: np.ndarray, source: str) -> np.ndarray:
    """int64 counts or indices, from numbers of any dtype.

    Raises:
        CloudError: If one is not a whole number, or is 2**53 or more.
    """
    fits = np.isfinite(values) & (np.abs(values) < 2**53)
    if not fits.all() or (values != np.round(values)).any():
        raise CloudError(f"{source}: expected counts and indices that are whole numbers, found others")
    return values.astype(np.int64)


def typed(values: np.ndarray, kind: str, source: str) -> np.ndarray:
    """Numbers read from text, cast to the dtype that a header declares if that is an integer type; else unchanged.

    Raises:
        CloudError: If one does not fit into the type.
    """
    kind = kind.lower()
    if kind.lstrip("<>=")[0] not in "iu":
        return values
    least, most = max(np.iinfo(kind).min, -(2**53)), min(np.iinfo(kind).max, 2**53)  # above, float64 skips numbers
    fits = (values >= least) & (values <= most)  # false for NaN
    if not fits.all() or (values != np.round(values)).any():
        raise CloudError(f"{source}: expected whole numbers from {least} to {most}, found others")
    return values.astype(kind)


def count(word: str, what: str, source: str) -> int:
    """The number that a header declares for ``what``, such as points.

    Raises:
        CloudError: If the word is not a whole number, or has more than 15 digits.

    Example:
        >>> count("12", "points", "a.pts")
        12
    """
    if not COUNT.fullmatch(word):
        raise CloudError(f"{source}: expected the number of {what}, found {shown(word.encode())}")
    return int(word)


def shown(word: bytes, most: int = 40) -> str:
    """The word for an error message: printable, and cut to ``most`` characters."""
    return repr(word[:most].decode("ascii", "backslashreplace")) + ("..." if len(word) > most else "")
