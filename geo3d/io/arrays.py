"""Reading of NPZ and NPY files, and the choice of the arrays that make up a cloud."""

import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import h5py
import numpy as np

from geo3d.errors import CloudError
from geo3d.io.files import existing_file
from geo3d.io.names import FEATURES, JOINTS, LABEL, NORMAL, POS, RGB, Arrays, from_rows

FREE = 2**26
"""A compressed array may always expand to this many bytes."""
MOST = 100
"""A larger array may expand to this many times its stored bytes; coordinates compress to a tenth at best."""
FEW = 16
"""An array with fewer rows than this, and more columns, is taken to hold one point per column."""
ORIGIN, FRAME = "origin", "frame"
ROUNDING = 1e-4
"""How far a frame may be from a similarity: a cloud may have been rotated many times in float32."""


def read_npz(path: str | Path) -> Arrays:
    """The arrays of one cloud under geo3d's names; the file may use other common names (``xyz``, ``points``, ...).

    ``write_cloud`` also stores ``frame``, (4, 4) float64, which maps these coordinates to those of the source. geo3d
    0.2 stored only the translation, as ``origin (3,)``; it is returned as a frame, too.

    Raises:
        CloudError: If the file is damaged, declares more than it stores, holds Python objects, or has no array of
            coordinates.
    """
    source, names = str(path), list[str]()

    def wanted(present: list[str]) -> set[str]:
        names.extend(present)
        return known_names() | {ORIGIN, FRAME} if len(present) > 1 else set(map(str.lower, present))

    arrays = read_archive(path, wanted)
    if len(arrays) == 1 and not set(arrays) & set(POS):
        arrays = {"pos": next(iter(arrays.values()))}
    if not {name.lower() for name in arrays} & set(POS):
        raise CloudError(f"{source}: expected coordinates under one of {', '.join(POS)}; found {sorted(names)}"[:400])
    cloud = one_cloud(arrays, source)
    frame = _frame(arrays, source)
    if frame is not None:
        cloud[FRAME] = frame
    return cloud


def read_archive(path: str | Path, wanted: Callable[[list[str]], set[str]] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an NPZ file by name.

    Args:
        path: The file.
        wanted: Gives the names, in lower case, of the arrays to read, from those in the file; None reads all.

    Raises:
        CloudError: If the file is damaged, declares more than it stores, or holds Python objects.
    """
    source = str(path)
    existing_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            names = [entry.filename.removesuffix(".npy") for entry in entries]
            if len(set(map(str.lower, names))) < len(names):
                raise CloudError(f"{source}: expected every array once, found {sorted(names)}"[:300])
            chosen = set(map(str.lower, names)) if wanted is None else wanted(names)
            return {
                name: _entry(archive, entry, source)
                for name, entry in zip(names, entries, strict=True)
                if name.lower() in chosen
            }
    except CloudError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen different exceptions
        raise CloudError(_damaged(source, "NumPy arrays", error)) from error


def _frame(arrays: dict[str, np.ndarray], source: str) -> np.ndarray | None:
    """(4, 4) the stored frame, or a translation by the stored origin; None if the file has neither."""
    origin, frame = arrays.get(ORIGIN), arrays.get(FRAME)
    if origin is not None and origin.dtype == np.float64 and origin.shape == (3,):
        if not np.isfinite(origin).all():
            raise CloudError(f"{source}: expected an origin of three finite numbers, found {origin.tolist()}")
        translation = np.eye(4)
        translation[:3, 3] = origin
        return translation
    if frame is None or frame.dtype != np.float64 or frame.shape != (4, 4):
        return None
    square = frame[:3, :3] @ frame[:3, :3].T
    size = square.trace() / 3
    if not np.isfinite(frame).all() or not size > 0 or (frame[3] != (0, 0, 0, 1)).any():
        raise CloudError(
            f"{source}: expected a finite frame (4, 4) with the last row 0, 0, 0, 1; found {frame.tolist()}"
        )
    if np.abs(square / size - np.eye(3)).max() > ROUNDING:
        raise CloudError(f"{source}: expected a frame that only rotates, scales and translates; found {frame.tolist()}")
    return frame


def read_npy(path: str | Path) -> Arrays:
    """The arrays of one cloud, from an array of shape (N, 3 or more).

    Raises:
        CloudError: If the file is damaged, its size is not the declared one, it holds Python objects, or the array has
            another shape.
    """
    return one_cloud({"pos": read_array(path)}, str(path))


def read_array(path: str | Path) -> np.ndarray:
    """The array of an NPY file, whatever its shape and dtype.

    Raises:
        CloudError: If the file is missing, damaged, its size is not the declared one, or it holds Python objects.
    """
    path = existing_file(path)
    try:
        with path.open("rb") as file:
            _check_size(file, path.stat().st_size, str(path))
            file.seek(0)
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except CloudError:
        raise
    except Exception as error:
        raise CloudError(_damaged(str(path), "a NumPy array", error)) from error


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, source: str) -> np.ndarray:
    """One array of an NPZ file; its declared size is compared with the stored one before memory is allocated."""
    name = f"{source}, {entry.filename[:60]}"
    check_growth(entry.file_size, entry.compress_size, name)
    with archive.open(entry) as file:
        _check_size(file, entry.file_size, name)
    with archive.open(entry) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
        while file.read(2**16):  # zipfile compares the checksum at the end
            pass
    return array


def _check_size(file: IO[bytes], size: int, source: str) -> None:
    """Check that a file in NumPy's format has exactly the bytes that its header declares."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise CloudError(f"{source}: expected an array of numbers, found version {version} of NumPy's format")
    shape, _, kind = readers[version](file)
    if kind.hasobject:
        raise CloudError(f"{source}: expected an array of numbers, found Python objects")
    declared, stored = math.prod(shape) * kind.itemsize, size - file.tell()
    if declared != stored or min(shape, default=0) < 0:
        raise CloudError(f"{source}: the array declares {declared} bytes {tuple(shape)}, and {stored} are stored"[:300])


def check_growth(declared: int, stored: int, source: str) -> None:
    """Check that an array does not declare far more bytes than are stored, before memory is allocated for it.

    Raises:
        CloudError: If it declares more than 64 MiB and more than 100 times the stored bytes.
    """
    if declared > max(FREE, MOST * stored):
        raise CloudError(
            f"{source}: {stored} stored bytes declare an array of {declared}; no cloud compresses that well"
        )


def _damaged(source: str, what: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    return f"{source}: expected {what} of numbers; the file is damaged, cut off or holds Python objects: {reason}"


def known_names() -> set[str]:
    """The names of arrays that geo3d recognises, in lower case."""
    return {*POS, *NORMAL, *RGB, *LABEL, *FEATURES, *JOINTS}


def coordinates(arrays: Mapping[str, np.ndarray | h5py.Dataset], source: str) -> np.ndarray | h5py.Dataset:
    """(N, 3 or more) or (n, P, 3 or more), the array of coordinates.

    Raises:
        CloudError: If there is none, it has another shape, or it does not hold real numbers.
    """
    pos = _named(arrays, POS)
    if pos is None:
        raise CloudError(f"{source}: expected coordinates under one of {', '.join(POS)}; found {sorted(arrays)}")
    shape = tuple(pos.shape)
    if pos.ndim in (2, 3) and (shape[-2] == 3 < shape[-1] or 3 < shape[-2] < FEW < shape[-1]):
        raise CloudError(f"{source}: expected coordinates of shape (N, 3) or (n, N, 3), found {shape}; transpose it")
    if pos.ndim not in (2, 3) or shape[-1] < 3:
        raise CloudError(f"{source}: expected coordinates of shape (N, 3) or (n, N, 3), found {shape}")
    if pos.dtype.kind not in "fiu":
        raise CloudError(f"{source}: expected coordinates that are real numbers, found {pos.dtype}")
    return pos


def one_cloud(arrays: Mapping[str, np.ndarray], source: str) -> Arrays:
    """The arrays of one cloud, renamed to geo3d's names; arrays with unknown names are dropped.

    A label array with one entry becomes ``y``, the label of the cloud; one with an entry per point becomes ``point_y``.

    Raises:
        CloudError: If the coordinates are missing or are those of several clouds, or if another recognised array does
            not have one row per point.
    """
    pos = coordinates(arrays, source)
    if pos.ndim == 3:
        if pos.shape[0] != 1:
            raise CloudError(f"{source}: expected one cloud (N, 3), found {pos.shape[0]}; store each in its own file")
        pos = pos[0]
    cloud = from_rows(pos)
    for key, names in (("normal", NORMAL), ("rgb", RGB), ("x", FEATURES)):
        values = _named(arrays, names)
        if values is None:
            continue
        if values.ndim == 3 and values.shape[0] == 1:
            values = values[0]
        values = values[:, None] if values.ndim == 1 else values
        width = "C" if key == "x" else "3"
        if values.shape[0] != len(pos) or values.ndim != 2 or (key != "x" and values.shape[1] != 3):
            shape = tuple(values.shape)
            raise CloudError(f"{source}: expected {key} of shape ({len(pos)}, {width}), found {shape}")
        if values.dtype.kind not in "fiub":
            raise CloudError(f"{source}: expected {key} that holds real numbers, found {values.dtype}")
        cloud[key] = values
    for name in LABEL:
        label = _named(arrays, (name,))
        if label is None or label.dtype.kind not in "fiub":
            continue
        if label.size not in (1, len(pos)):
            raise CloudError(f"{source}: expected one label, or {len(pos)} for the points; found {tuple(label.shape)}")
        if label.size == len(pos) and "point_y" not in cloud:
            cloud["point_y"] = label.reshape(-1)
        elif label.size == 1:
            cloud.setdefault("y", label.reshape(-1))
    joints = _named(arrays, JOINTS)
    if joints is not None:
        joints = joints[0] if joints.ndim == 3 and len(joints) == 1 else joints
        if joints.ndim != 2 or joints.shape[1] != 3 or joints.dtype.kind not in "fiu":
            raise CloudError(f"{source}: expected joints of shape (J, 3), found {joints.shape} of {joints.dtype}")
        cloud["joints"] = joints
    return cloud


def _named(arrays: Mapping[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    """The array with the first of ``names`` that occurs, in upper or lower case; None if none does."""
    lower = {name.lower(): name for name in arrays}
    return next((arrays[lower[name]] for name in names if name in lower), None)
