"""Arrays in HDF5 files: one cloud, or many."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from geo3d.errors import CloudError
from geo3d.io.arrays import check_growth, coordinates, known_names, one_cloud
from geo3d.io.files import existing_file
from geo3d.io.names import Arrays


def read_hdf5(path: str | Path, index: int | None = None) -> Arrays:
    """The arrays of one cloud: the file's only cloud, or cloud ``index`` of a file with an array (n, P, 3 or more).

    Raises:
        CloudError: If the file is damaged, no array can be the coordinates, or the file holds several clouds and
            ``index`` is None.
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
    """The arrays of every cloud of a file with an array (n, P, 3 or more), read at once.

    Raises:
        CloudError: If the file is damaged or no array can be the coordinates.
    """
    with open_hdf5(path) as stored:
        number = coordinates(stored, str(path)).shape[0]
        stacked = {name: item[()] for name, item in _known(stored, number).items()}
    clouds = [{name: np.asarray(values[i]) for name, values in stacked.items()} for i in range(number)]
    return [one_cloud(arrays, f"{path}, cloud {i}") for i, arrays in enumerate(clouds)]


def hdf5_bytes(path: str | Path) -> int:
    """The bytes that all clouds of a file take in memory.

    Raises:
        CloudError: If the file is damaged.
    """
    with open_hdf5(path) as stored:
        return sum(item.nbytes for item in _known(stored).values())


def _known(stored: Mapping[str, h5py.Dataset], rows: int | None = None) -> dict[str, h5py.Dataset]:
    """The data sets of numbers whose names geo3d recognises; with ``rows``, only those with that many rows."""
    names = known_names()
    fits = {name: item for name, item in stored.items() if name.lower() in names and item.dtype.kind in "fiub"}
    return fits if rows is None else {name: item for name, item in fits.items() if item.shape[:1] == (rows,)}


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[dict[str, h5py.Dataset]]:
    """The file's data sets by name, open inside the block; all their numbers lie in this file.

    Raises:
        CloudError: If the file is damaged (some damage shows only when the block reads from it), or a data set lies in
            another file or declares more than is stored.
    """
    existing_file(path)
    try:
        _check_hdf5_end(Path(path))
        with h5py.File(path, "r") as file:
            datasets = {}
            for name in file:
                if isinstance(file.get(name, getlink=True), h5py.ExternalLink):
                    raise CloudError(f"{path}: {name} lies in another file; expected the numbers in this one")
                item = file[name]
                if item.file.filename != file.filename:  # a link to an external link inside a group
                    raise CloudError(f"{path}: {name} lies in another file; expected the numbers in this one")
                if isinstance(item, h5py.Dataset) and item.shape is not None:
                    _check_stored(item, Path(path).stat().st_size, f"{path}, {name}")
                    datasets[name] = item
            yield datasets
    except CloudError:
        raise
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, ArithmeticError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CloudError(f"{path}: expected an HDF5 file; it is damaged, cut off or not HDF5: {reason}") from error


def _check_hdf5_end(path: Path) -> None:
    """Check that the file is not longer than its superblock declares; HDF5 itself only notices shorter files.

    Raises:
        CloudError: If it is longer: inserted bytes would shift all numbers after them.
    """
    with path.open("rb") as file:
        head = file.read(96)
        if not head.startswith(b"\x89HDF\r\n\x1a\n") or head[8] > 3:
            return  # the superblock is not at the start of the file, or of a later version
        old = head[8] < 2
        width, at = (head[13], 24 + 16) if old else (head[9], 12 + 16)
        if width != 8:
            return
        end = int.from_bytes(head[at + 4 * (head[8] == 1) :][:8], "little")
        size = path.stat().st_size
        if size > end:
            raise CloudError(f"{path}: expected an HDF5 file of {end} bytes, as it declares, found {size}")


def _check_stored(item: h5py.Dataset, size: int, source: str) -> None:
    """Check that all numbers of a data set are stored in this file, and that it does not declare far more than that.

    Raises:
        CloudError: If not: HDF5 would return bytes of other files, or zeros for the numbers that are not stored.
    """
    if item.external or item.is_virtual:
        raise CloudError(f"{source}: the numbers lie in another file (external storage); expected them in this one")
    stored, declared = item.id.get_storage_size(), math.prod(item.shape) * item.dtype.itemsize
    check_growth(declared, size, source)
    if item.chunks is None:
        complete = stored >= declared
    else:
        pieces = [-(-side // step) for side, step in zip(item.shape, item.chunks, strict=True)]
        complete = item.id.get_num_chunks() >= math.prod(pieces)
    if not complete or stored > size:
        raise CloudError(f"{source}: declares {tuple(item.shape)} of {item.dtype}, and {stored} bytes are stored"[:300])
