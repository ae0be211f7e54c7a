"""NPY, NPZ and HDF5 files."""

import ast
import io
import struct
import zipfile

import numpy as np
from readings import InvalidError, Reading, points


def npy(content: bytes) -> list[Reading]:
    """The reading of an NPY file with an array of numbers (N, 3 or more)."""
    try:
        return [Reading(_coordinates(_array(content)))]
    except InvalidError:
        return []


def npz(content: bytes) -> list[Reading]:
    """The reading of an NPZ archive: the coordinates among its arrays, whose checksums are verified."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            arrays = {name.removesuffix(".npy"): archive.read(name) for name in names}
        if len(arrays) != len(names):
            return []
        key = "pos" if "pos" in arrays else next(iter(arrays)) if len(arrays) == 1 else ""
        return [Reading(_coordinates(_array(arrays[key])))]
    except Exception:  # whatever is wrong with the archive
        return []


def _array(content: bytes) -> np.ndarray:
    version = tuple(content[6:8])
    if content[:6] != b"\x93NUMPY" or version not in ((1, 0), (2, 0), (3, 0)):
        raise InvalidError("not NPY")
    form = "<H" if version == (1, 0) else "<I"
    start = 8 + struct.calcsize(form)
    try:
        length = struct.unpack_from(form, content, 8)[0]
        header = ast.literal_eval(content[start : start + length].decode("latin1" if version < (3, 0) else "utf-8"))
        kind = np.dtype(header["descr"]) if isinstance(header["descr"], str) else None
        shape, fortran = header["shape"], header["fortran_order"]
    except Exception as error:  # of Python's parser, of dtype, of keys
        raise InvalidError(str(error)) from None
    if set(header) != {"descr", "shape", "fortran_order"} or not isinstance(fortran, bool) or kind is None:
        raise InvalidError("header")
    if not isinstance(shape, tuple) or not all(type(each) is int and 0 <= each < 2**40 for each in shape):
        raise InvalidError("shape")
    many = 1
    for each in shape:
        many *= each
    body = content[start + length :]
    if kind.kind not in "fiu" or kind.itemsize * many != len(body):
        raise InvalidError("another number of bytes")
    return np.frombuffer(body, kind).reshape(shape, order="F" if fortran else "C")


def _coordinates(array: np.ndarray) -> np.ndarray:
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or array.shape[1] < 3 or (array.shape[0] == 3 and array.shape[1] > 3):
        raise InvalidError(f"shape {array.shape}")
    return points(array[:, :3])


def hdf5(content: bytes) -> list[Reading]:
    """The reading of an HDF5 file by h5py; all data that the file declares must be stored in the file itself."""
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            if "data" not in file or not isinstance(file["data"], h5py.Dataset):
                return []
            data = file["data"]
            whole = data.size * data.dtype.itemsize
            chunks = data.id.get_num_chunks() if data.chunks else None
            wanted = (
                np.prod([-(-a // b) for a, b in zip(data.shape, data.chunks, strict=True)]) if data.chunks else None
            )
            if data.external or chunks != wanted or (chunks is None and data.id.get_storage_size() != whole):
                return []
            return [Reading(_coordinates(data[()]))] if data.dtype.kind in "fiu" else []
    except Exception:  # whatever is wrong with the file
        return []
