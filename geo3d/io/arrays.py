"""Arrays in NPZ, NPY and HDF5 files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from geo3d.errors import CloudError
from geo3d.io.files import existing_file
from geo3d.io.names import FEATURES, LABEL, NORMAL, POS, RGB, Arrays, from_rows


def read_npz(path: str | Path) -> Arrays:
    """The arrays of one cloud under the names that people give them (``pos``, ``xyz``, ``points``, ...).

    Raises:
        CloudError: If the file is damaged or holds Python objects, or no array can be the coordinates.
    """
    source = str(path)
    existing_file(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except Exception as error:  # zip, zlib and NumPy raise a dozen kinds between them
        raise CloudError(f"{source}: expected NumPy arrays of numbers; damaged, cut off or objects: {error}") from error
    if len(arrays) == 1 and not set(arrays) & set(POS):
        arrays = {"pos": next(iter(arrays.values()))}
    return one_cloud(arrays, source)


def read_npy(path: str | Path) -> Arrays:
    """One cloud from an array of (N, 3 or more) numbers.

    Raises:
        CloudError: If the file is damaged or holds Python objects, or the array has another shape.
    """
    existing_file(path)
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:
        raise CloudError(f"{path}: expected a NumPy array of numbers; damaged, cut off or objects: {error}") from error
    return one_cloud({"pos": np.asarray(array)}, str(path))


def read_hdf5(path: str | Path, index: int | None = None) -> Arrays:
    """One cloud: the file's only one, or number ``index`` of a file with an array (n, P, 3 or more).

    Raises:
        CloudError: If the file is damaged, no array can be the coordinates, or it holds many clouds and no index says
            which.
    """
    with open_hdf5(path) as stored:
        pos = coordinates(stored, str(path))
        if pos.ndim == 3 and index is None and pos.shape[0] != 1:
            raise CloudError(f"{path}: expected one cloud (N, 3), found {pos.shape[0]}; read them with data=folder")
        if pos.ndim == 2:
            return one_cloud({name: np.asarray(item[()]) for name, item in _known(stored).items()}, str(path))
        rows = _known(stored, pos.shape[0])
        return one_cloud({name: np.asarray(item[index or 0]) for name, item in rows.items()}, str(path))


def read_hdf5_clouds(path: str | Path) -> list[Arrays]:
    """All clouds of a file with an array (n, P, 3 or more), read at once.

    Raises:
        CloudError: If the file is damaged or no array can be the coordinates.
    """
    with open_hdf5(path) as stored:
        number = coordinates(stored, str(path)).shape[0]
        whole = {name: item[()] for name, item in _known(stored, number).items()}
    clouds = [{name: np.asarray(values[i]) for name, values in whole.items()} for i in range(number)]
    return [one_cloud(arrays, f"{path}, cloud {i}") for i, arrays in enumerate(clouds)]


def _known(stored: Mapping[str, h5py.Dataset], rows: int | None = None) -> dict[str, h5py.Dataset]:
    """The data sets whose names mean something here, and that have so many rows."""
    names = {*POS, *NORMAL, *RGB, *LABEL, *FEATURES}
    fits = {name: item for name, item in stored.items() if name.lower() in names and item.dtype.kind in "fiub"}
    return fits if rows is None else {name: item for name, item in fits.items() if item.shape[:1] == (rows,)}


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[dict[str, h5py.Dataset]]:
    """The file's data sets by name, while the block lasts.

    Raises:
        CloudError: If the file is damaged, now or while the block reads from it.
    """
    existing_file(path)
    try:
        with h5py.File(path, "r") as file:
            yield {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
    except CloudError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise CloudError(f"{path}: expected an HDF5 file; it is damaged, cut off or none: {error}") from error


def coordinates(arrays: Mapping[str, np.ndarray | h5py.Dataset], source: str) -> np.ndarray | h5py.Dataset:
    """The array that holds coordinates, (N, 3 or more) or (n, P, 3 or more).

    Raises:
        CloudError: If there is none, or it has another shape or no numbers.
    """
    pos = _named(arrays, POS)
    if pos is None:
        raise CloudError(f"{source}: expected coordinates under one of {', '.join(POS)}; found {sorted(arrays)}")
    if pos.ndim not in (2, 3) or pos.shape[-1] < 3:
        raise CloudError(f"{source}: expected coordinates of shape (N, 3) or (n, N, 3), found {tuple(pos.shape)}")
    if pos.dtype.kind not in "fiu":
        raise CloudError(f"{source}: expected coordinates that are real numbers, found {pos.dtype}")
    return pos


def one_cloud(arrays: Mapping[str, np.ndarray], source: str) -> Arrays:
    """geo3d's arrays from the arrays of one cloud under other people's names; unknown names are left out.

    A label with a single entry is the cloud's own, ``y``; one for each point is ``point_y``.

    Raises:
        CloudError: If coordinates are missing, or an array that is known does not have one row a point.
    """
    pos = coordinates(arrays, source)
    if pos.ndim == 3:
        if pos.shape[0] != 1:
            raise CloudError(f"{source}: expected one cloud (N, 3), found {pos.shape[0]} of them; store each by itself")
        pos = pos[0]
    found = from_rows(pos)
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
        found[key] = values
    for name in LABEL:
        label = _named(arrays, (name,))
        if label is None or label.dtype.kind not in "fiub":
            continue
        if label.size not in (1, len(pos)):
            raise CloudError(f"{source}: expected one label, or {len(pos)} for the points; found {tuple(label.shape)}")
        key = "point_y" if label.size == len(pos) and "point_y" not in found else "y"
        found.setdefault(key, label.reshape(-1))
    return found


def _named(arrays: Mapping[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray | None:
    """The array under the first of the names that is there, whatever its case."""
    lower = {name.lower(): name for name in arrays}
    return next((arrays[lower[name]] for name in names if name in lower), None)
