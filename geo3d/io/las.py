"""LAS and LAZ files of laser surveys, read by laspy."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from geo3d.errors import CloudError
from geo3d.io.files import existing_file
from geo3d.io.names import Arrays

HEAD = 255
"""Bytes up to the number of points of version 1.4, which older versions have further to the front."""


def read_las(path: str | Path) -> Arrays:
    """The points of a LAS or LAZ file: ``pos`` float64, ``rgb`` and ``point_y`` (classification) where there are any.

    Classes that are all 0, "never classified", are no labels.

    Raises:
        CloudError: If laspy is missing, or the file is damaged, cut off or without points.
    """
    path = existing_file(path)
    _check_head(path)
    try:
        import laspy  # not a dependency: few people have survey files
    except ImportError as error:
        raise CloudError(f"{path}: LAS and LAZ are read by laspy; pip install geo3d[las]") from error
    try:
        with laspy.open(path) as file:
            expected, points = file.header.point_count, file.read()
        arrays = _arrays(points)
    except Exception as error:  # laspy, its decompressor and NumPy raise errors of many kinds
        raise CloudError(f"{path}: damaged or cut off: {str(error)[:120] or type(error).__name__}") from error
    if not expected or len(arrays["pos"]) != expected:
        raise CloudError(
            f"{path}: expected {expected} points, found {len(arrays['pos'])}; the file is cut off or empty"
        )
    return arrays


def _check_head(path: Path) -> None:
    """Check that the file is a LAS file, and has the bytes that its header announces if it is not compressed."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head.startswith(b"LASF") or len(head) < 227:
        raise CloudError(f"{path}: expected a LAS file, which begins with LASF; found {head[:8]!r}")
    start, _, form, length, count = struct.unpack_from("<IIBHI", head, 96)
    if head[24:26] >= b"\x01\x04" and len(head) == HEAD:
        (count,) = struct.unpack_from("<Q", head, 247)
    needed = start + length * count
    if not form & 0x80 and path.stat().st_size < needed:
        raise CloudError(f"{path}: expected {needed} bytes for {count} points, found {path.stat().st_size}; cut off")


def _arrays(points: Any) -> Arrays:
    arrays: Arrays = {"pos": np.stack([np.asarray(points.x), np.asarray(points.y), np.asarray(points.z)], axis=1)}
    names = set(points.point_format.dimension_names)
    if {"red", "green", "blue"} <= names:
        # 16 bits by the standard, 8 in many files: as wider integers their values decide
        color = np.stack([np.asarray(points[name]) for name in ("red", "green", "blue")], axis=1).astype(np.uint32)
        if color.any():
            arrays["rgb"] = color
    classes = np.asarray(points.classification).astype(np.int64)
    if classes.any():
        arrays["point_y"] = classes
    return arrays
