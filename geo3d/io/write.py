"""Writing a cloud as PLY or NPZ."""

from pathlib import Path

import numpy as np
from torch_geometric.data import Data

from geo3d.cloud import check_cloud
from geo3d.errors import CloudError
from geo3d.io.files import replacing

KEYS = ("pos", "normal", "rgb", "point_y", "x")


def write_cloud(path: str | Path, data: Data) -> None:
    """Write the cloud's ``pos``, ``normal``, ``rgb``, ``point_y`` and ``x``; the file is complete or does not change.

    PLY files are binary, little endian, with colours as bytes. If the cloud has a ``frame``, they hold the coordinates
    of its source in double precision. NPZ files hold all values unchanged, with ``y``, ``joints`` and ``frame``.

    Args:
        path: File name that ends in .ply or .npz.
        data: One cloud.

    Raises:
        CloudError: If the suffix is another one, the cloud is empty or not finite, or there are several clouds.
        Geo3dError: If the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".ply", ".npz"):
        raise CloudError(f"{path}: clouds are written as .ply or .npz, not as {path.suffix!r}")
    check_cloud(data.pos, f"the cloud for {path}")
    if data.get("ptr") is not None and len(data.ptr) > 2:
        raise CloudError(f"{path}: expected one cloud, found a batch of {len(data.ptr) - 1}; give one at a time")
    kept = (*KEYS, "y", "joints", "frame")
    arrays = {key: data[key].detach().cpu().numpy() for key in kept if data.get(key) is not None}
    for key, shape in (("frame", (4, 4)), ("joints", (-1, 3))):  # a batch of one has one more dimension
        if key in arrays:
            arrays[key] = arrays[key].reshape(shape)
    if "frame" in arrays:
        arrays["frame"] = arrays["frame"].astype(np.float64)
    with replacing(path) as temporary, temporary.open("wb") as file:
        if path.suffix.lower() == ".npz":
            np.savez(file, **arrays)
        else:
            rows = _rows(arrays)
            assert rows.dtype.names is not None
            names = {"f4": "float", "f8": "double", "u1": "uchar", "i4": "int"}
            properties = [f"property {names[rows.dtype[name].str[1:]]} {name}" for name in rows.dtype.names]
            lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *properties, "end_header"]
            file.write("\n".join(lines).encode() + b"\n" + rows.tobytes())


def _rows(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """(N,) structured rows, one per point, with a field for each PLY property."""
    columns: list[tuple[str, str, np.ndarray]] = []
    pos, normal, kind = arrays["pos"], arrays.get("normal"), "<f4"
    if "frame" in arrays:
        linear, kind = arrays["frame"][:3, :3], "<f8"
        pos = pos.astype(np.float64) @ linear.T + arrays["frame"][:3, 3]
        if normal is not None:
            normal = normal.astype(np.float64) @ (linear / np.cbrt(abs(np.linalg.det(linear)))).T
    columns += [(name, kind, pos[:, i]) for i, name in enumerate("xyz")]
    if normal is not None:
        columns += [(name, "<f4", normal[:, i]) for i, name in enumerate(("nx", "ny", "nz"))]
    if "rgb" in arrays:
        colours = np.round(arrays["rgb"].clip(0, 1) * 255)
        columns += [(name, "u1", colours[:, i]) for i, name in enumerate(("red", "green", "blue"))]
    if "point_y" in arrays:
        columns.append(("label", "<i4", arrays["point_y"]))
    features = arrays.get("x", np.zeros((0, 0))).T
    columns += [(f"feature_{i}", "<f4", values) for i, values in enumerate(features)]
    rows = np.empty(len(arrays["pos"]), [(name, kind) for name, kind, _ in columns])
    for name, _, values in columns:
        rows[name] = values
    return rows
