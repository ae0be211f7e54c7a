"""Reading a cloud or a mesh from a file of any known format."""

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from geo3d.cloud import check_cloud, per_point
from geo3d.errors import CloudError
from geo3d.geometry.frame import similarity
from geo3d.geometry.triangles import sample_triangles
from geo3d.io.arrays import read_npy, read_npz
from geo3d.io.files import existing_file
from geo3d.io.hdf5 import read_hdf5
from geo3d.io.las import read_las
from geo3d.io.names import Arrays, as_colours, as_labels
from geo3d.io.obj import read_obj
from geo3d.io.off import read_off
from geo3d.io.pcd import read_pcd
from geo3d.io.ply import read_ply
from geo3d.io.precision import centered
from geo3d.io.table import read_table

READERS: dict[str, Callable[[Path], Arrays]] = {
    ".ply": read_ply,
    ".pcd": read_pcd,
    ".off": read_off,
    ".obj": read_obj,
    ".xyz": read_table,
    ".asc": read_table,
    ".txt": read_table,
    ".pts": read_table,
    ".csv": read_table,
    ".las": read_las,
    ".laz": read_las,
    ".npz": read_npz,
    ".npy": read_npy,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
}
"""The reader for each suffix."""

MESHES = (".off", ".obj", ".ply")


def read_cloud(path: str | Path, num_points: int | None = None, generator: torch.Generator | None = None) -> Data:
    """The cloud in a file: ``pos`` (N, 3) float32, and any ``normal``, ``rgb`` (0..1), ``point_y``, ``x`` and ``y``.

    If float32 would lose the shape of a cloud that lies far from the origin, ``pos`` is shifted, and ``frame`` (4, 4)
    float64 maps it back to the file's coordinates. Normals and features may be NaN; functions that use them refuse it.
    Colours and labels with a NaN are left out with a warning.

    Args:
        path: PLY, PCD, OFF, OBJ, XYZ, ASC, TXT, PTS, CSV, LAS, LAZ, NPZ, NPY or HDF5; its suffix decides.
        num_points: Most points to return; None for all.
        generator: Draws the points: a random subset of a cloud, or ``num_points`` points spread evenly over the faces
            of a mesh. If this or ``num_points`` is None, the first points in the file are returned; for a mesh, these
            are its vertices.

    Raises:
        CloudError: If the file is missing, of an unknown format, damaged, cut off or empty, has a coordinate that is
            not finite, or lies so far from the origin that the file's own number type has lost its shape.
    """
    return as_data(read_arrays(path), str(path), num_points, generator)


def read_mesh(path: str | Path) -> tuple[Tensor, Tensor]:
    """Vertices (V, 3) float32 and triangles (F, 3) int64 of an OFF, OBJ or PLY file.

    Raises:
        CloudError: As ``read_cloud``, and if there are no faces or float32 cannot hold the vertices without a shift.
    """
    arrays = read_arrays(path, MESHES)
    data = as_data({"pos": arrays["pos"]}, str(path))
    if "frame" in data:
        raise CloudError(
            f"{path}: the mesh lies far from the origin; subtract {data.frame[:3, 3].tolist()} from its vertices"
        )
    vertices = data.pos
    if not len(arrays.get("faces", ())):
        raise CloudError(f"{path}: expected a mesh, found {len(vertices)} points without faces; use read_cloud")
    return vertices, torch.from_numpy(arrays["faces"])


@np.errstate(over="ignore", invalid="ignore")
def read_arrays(path: str | Path, suffixes: Iterable[str] = tuple(READERS)) -> Arrays:
    """The arrays in a file, under geo3d's names but in the file's dtypes.

    Raises:
        CloudError: If the file's suffix is not in ``suffixes``, or the file is missing or damaged.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes and not path.is_dir():
        raise CloudError(f"{path}: unknown suffix {path.suffix!r}; known are {' '.join(suffixes)}")
    existing_file(path)
    return READERS[path.suffix.lower()](path)


@np.errstate(over="ignore", invalid="ignore")  # values are checked below
def as_data(
    arrays: Arrays, source: str, num_points: int | None = None, generator: torch.Generator | None = None
) -> Data:
    """The cloud made of a reader's arrays, in geo3d's dtypes; see ``read_cloud``.

    Raises:
        CloudError: If there is no point, a coordinate is not finite, or float32 cannot hold the shape.
    """
    if num_points is not None and num_points < 1:
        raise CloudError(f"num_points: expected at least 1, found {num_points}")
    tensors: dict[str, Tensor] = {}
    origin: np.ndarray | None = None
    for key, values in arrays.items():
        if key in ("faces", "frame") or not values.size:
            continue
        if key in ("rgb", "point_y", "y") and values.dtype.kind == "f" and not np.isfinite(values).all():
            what = "colours" if key == "rgb" else "labels"
            warnings.warn(f"{source}: {what} are NaN or infinite at some points, and were left out", stacklevel=2)
            continue
        if key in ("y", "point_y"):
            tensors[key] = torch.from_numpy(as_labels(values, source))
            continue
        if key == "rgb":
            values = as_colours(values, source)
        if key == "pos":
            values, origin = centered(values, source)
            if origin is not None or "frame" in arrays:
                shift = similarity(torch.eye(3), torch.from_numpy(np.zeros(3) if origin is None else origin))
                tensors["frame"] = torch.from_numpy(arrays.get("frame", np.eye(4))) @ shift
        if key == "joints" and origin is not None:  # in the coordinates of the points, which come first
            values = values.astype(np.float64) - origin
        tensors[key] = torch.from_numpy(np.array(values, dtype=np.float32))
    check_cloud(tensors.get("pos", torch.zeros(0, 3)), source)
    if num_points is None:
        return Data(**tensors)
    if generator is not None and len(arrays.get("faces", ())):
        return _sampled(tensors, torch.from_numpy(arrays["faces"]), num_points, generator, source)
    total = tensors["pos"].shape[0]
    kept = torch.arange(min(num_points, total))
    if generator is not None and num_points < total:
        kept = torch.randperm(total, generator=generator, device=generator.device)[:num_points].cpu()
    return Data(**{key: tensor[kept] if per_point(key) else tensor for key, tensor in tensors.items()})


def _sampled(
    tensors: dict[str, Tensor], faces: Tensor, num_points: int, generator: torch.Generator, source: str
) -> Data:
    """Points on the faces with their normals, and any colours and features, interpolated from those of the vertices."""
    carried = {key: tensors[key] for key in ("pos", "rgb", "x") if key in tensors}
    try:
        points, normal = sample_triangles(torch.cat(list(carried.values()), 1), faces, num_points, generator)
    except CloudError as error:
        raise CloudError(f"{source}: {error}") from error
    parts = points.split([tensor.shape[1] for tensor in carried.values()], 1)
    interpolated = dict(zip(carried, (part.contiguous() for part in parts), strict=True))
    return Data(**interpolated, normal=normal, **{key: tensors[key] for key in ("frame",) if key in tensors})
