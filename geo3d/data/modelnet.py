"""ModelNet10 and ModelNet40, from each of the three forms in which they are distributed."""

import logging
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import Points, Split, Up, checked
from geo3d.cloud import check_cloud
from geo3d.data.targets import Classes, Target
from geo3d.errors import CloudError
from geo3d.io.axes import from_z_up, to_z_up
from geo3d.io.files import existing_folder, listing, read_bytes, replacing
from geo3d.io.hdf5 import open_hdf5
from geo3d.io.precision import check_precision
from geo3d.io.read import read_cloud
from geo3d.seeds import generator

CACHE = ".geo3d_cache"
TREE = (
    "either train_files.txt, test_files.txt, shape_names.txt and the .h5 files they name; "
    "or CLASS/train/*.off and CLASS/test/*.off; "
    "or modelnet40_train.txt, modelnet40_test.txt, modelnet40_shape_names.txt and CLASS/CLASS_0001.txt"
)
log = logging.getLogger(__name__)


class ModelNet(Dataset):
    """CAD models of 10 or 40 classes, as points on their surfaces (Wu et al., arXiv 1406.5670).

    The files in ``root`` show which of three forms it has: the HDF5 files of the PointNet release
    (``modelnet40_ply_hdf5_2048``), the original tree of OFF meshes, or the text files of
    ``modelnet40_normal_resampled``. On each mesh 2048 points are drawn evenly by area; the draw depends only on the
    file's name. The points of meshes and text files are kept in ``root/.geo3d_cache`` if that can be written.

    Args:
        root: The folder.
        split: "train" or "test".
        up: The axis that points up in the files: "y" for the PointNet release and the resampled text, "z" for the OFF
            meshes of ModelNet10. Clouds come out z-up.
        num_points: How many points to keep of each cloud, the first ones; None for all.
        cache: Whether to keep the points of meshes and text files in ``root``.
        num_classes: 10 or 40, for a resampled folder that lists both; None takes 40 if it is there.

    Raises:
        CloudError: If the folder has none of these forms, or a file is missing, damaged or does not fit the others.
    """

    points_per_mesh = 2048

    @checked
    def __init__(
        self,
        root: str | Path,
        split: Split = "train",
        up: Up = "y",
        num_points: Points | None = None,
        cache: bool = True,
        num_classes: Literal[10, 40] | None = None,
    ) -> None:
        self.root, self.split, self.up, self.num_points = root, split, up, num_points
        self.cache, self.num_classes = cache, num_classes
        folder = existing_folder(root, TREE)
        self.form: str
        """"hdf5", "off" or "resampled"."""
        self.classes: list[str]
        """Names, in the order of the labels."""
        self.files: list[Path]
        """The files of this split."""
        if (folder / "train_files.txt").exists() or (folder / "test_files.txt").exists():
            self.form, self.classes, self.files = "hdf5", _lines(folder / "shape_names.txt"), self._listed()
        elif lists := sorted(folder.glob("modelnet[14]0_shape_names.txt")):
            self.form, self.classes, self.files = "resampled", *self._resampled(lists)
        elif any(folder.glob("*/*/*.off")):
            self.form, self.classes, self.files = "off", *self._meshes()
        else:
            entries = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
            raise CloudError(f"{root}: no ModelNet found; expected {TREE}; found {entries}")
        if not self.files:
            raise CloudError(f"{root}: no file of the split {split!r}; expected {TREE}")

    def _listed(self) -> list[Path]:
        names = _lines(Path(self.root) / f"{self.split}_files.txt")
        # the entries name a folder on the machine where the list was made
        files = [Path(self.root) / name.replace("\\", "/").rsplit("/", 1)[-1] for name in names]
        _check_there(files, f"{self.split}_files.txt")
        return files

    def _resampled(self, lists: list[Path]) -> tuple[list[str], list[Path]]:
        count = self.num_classes or int(lists[-1].name[8:10])
        classes = _lines(Path(self.root) / f"modelnet{count}_shape_names.txt")
        name = f"modelnet{count}_{self.split}.txt"
        shapes = _lines(Path(self.root) / name)
        files = [Path(self.root) / shape.rsplit("_", 1)[0] / f"{shape}.txt" for shape in shapes]
        if unknown := [file.stem for file in files if file.parent.name not in classes]:
            raise CloudError(f"{name}: the class of {unknown[0]} is not in modelnet{count}_shape_names.txt")
        _check_there(files, name)
        return classes, files

    def _meshes(self) -> tuple[list[str], list[Path]]:
        folders = sorted(p for p in Path(self.root).iterdir() if p.is_dir() and not p.name.startswith("."))
        classes = [p.name for p in folders if (p / "train").is_dir() or (p / "test").is_dir()]
        files = [file for name in classes for file in sorted((Path(self.root) / name / self.split).glob("[!.]*.off"))]
        empty = sorted(set(classes) - {file.parent.parent.name for file in files})
        if files and empty:
            raise CloudError(f"{self.root}: no .off file in {empty[0]}/{self.split}; the tree is not complete")
        return classes, files

    @cached_property
    def labels(self) -> Tensor:
        """(len,) int64."""
        if self.form == "hdf5":
            labels = torch.cat([_labels(file, len(self.classes)) for file in self.files])
            if not len(labels):
                raise CloudError(f"{self.files[0]}: no clouds in the files of the split {self.split!r}")
            return labels
        place = -2 if self.form == "resampled" else -3
        index = {name: i for i, name in enumerate(self.classes)}
        return torch.tensor([index[file.parts[place]] for file in self.files])

    @cached_property
    def _points(self) -> tuple[Tensor, Tensor | None]:
        """Coordinates and normals. They are read on first use, so by the process that uses them; no file stays open."""
        stored = self.form == "hdf5"
        parts = [_read(file, self.num_points) for file in self.files] if stored else [self._converted()]
        sizes = {pos.shape[1] for pos, _ in parts}
        if len(sizes) > 1:
            raise CloudError(f"{self.root}: expected clouds of one size in all files, found {sorted(sizes)} points")
        pos = torch.cat([part for part, _ in parts]) if len(parts) > 1 else parts[0][0]
        if len(pos) != len(self.labels):
            raise CloudError(f"{self.root}: {len(pos)} clouds, but {len(self.labels)} labels")
        normals = [part for _, part in parts if part is not None]
        normal = torch.cat(normals) if len(normals) == len(parts) else None
        return to_z_up(pos, self.up), None if normal is None else to_z_up(normal, self.up)

    @property
    def pos(self) -> Tensor:
        """(len, P, 3) float32 coordinates of all clouds, z-up, in memory."""
        return self._points[0]

    @property
    def normal(self) -> Tensor | None:
        """(len, P, 3) float32 unit normals, where the files have them."""
        return self._points[1]

    @property
    def targets(self) -> dict[str, Target]:
        """``y``."""
        return {"y": Classes(tuple(self.classes))}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Data:
        if not -len(self) <= index < len(self):
            raise IndexError(f"cloud {index} of {len(self)}")
        data = Data(pos=self.pos[index], y=self.labels[index].reshape(1))
        if self.normal is not None:
            data.normal = self.normal[index]
        if self.up == "y":
            data.frame = from_z_up(self.up)
        return data

    def source(self, index: int) -> str:
        """The file of cloud ``index``, with the number of the cloud if the file holds many."""
        return self._sources[index]

    @cached_property
    def _sources(self) -> list[str]:
        if self.form != "hdf5":
            return [str(file) for file in self.files]
        return [f"{file}, cloud {i}" for file in self.files for i in range(len(_labels(file, len(self.classes))))]

    def manifest(self) -> dict[str, Any]:
        """What was read, as JSON types: form, split, up, counts, classes, and files with a hash of names and sizes."""
        counts = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
        return {
            "name": "ModelNet",
            "folder": Path(self.root).resolve().name,
            "form": self.form,
            "split": self.split,
            "up": self.up,
            "num_clouds": len(self),
            "num_points": self.num_points,
            "classes": dict(zip(self.classes, counts, strict=True)),
            **listing(self.files, Path(self.root)),
        }

    def _converted(self) -> tuple[Tensor, Tensor | None]:
        """Coordinates and normals of the meshes or text files, from the cache if it has them."""
        root = Path(self.root)
        size = f"_{self.points_per_mesh}" if self.form == "off" else ""
        # the name holds a hash of the files' names and sizes, so that a cache of other files is never read
        stored = root / CACHE / f"{self.form}_{self.split}{size}_{listing(self.files, root)['sha256'][:16]}.h5"
        if stored.is_file():
            return _read(stored, self.num_points)
        read = self._mesh if self.form == "off" else self._text
        first = read(self.files[0])[0]
        log.info("reading %d files of %s", len(self.files), root)
        if self.cache and os.access(root / CACHE if (root / CACHE).exists() else root, os.W_OK):
            with replacing(stored) as temporary, h5py.File(temporary, "w", locking=False) as file:
                shape = (len(self.files), *first.shape)
                arrays = [file.create_dataset(key, shape, "f4") for key in ("data", "normal")]
                for i, cloud in enumerate(_same_size(self.files, read, len(first))):
                    for array, values in zip(arrays, cloud, strict=True):
                        array[i] = values
            return _read(stored, self.num_points)
        if self.cache:
            log.warning("%s cannot be written: the converted clouds are kept in memory only", root)
        kept = slice(self.num_points)
        clouds = [(pos[kept], normal[kept]) for pos, normal in _same_size(self.files, read, len(first))]
        _check_size(len(first), self.num_points, self.files[0])
        pos, normal = (torch.from_numpy(np.stack(part)) for part in zip(*clouds, strict=True))
        return pos, normal

    def _mesh(self, file: Path) -> tuple[np.ndarray, np.ndarray]:
        draws = generator("modelnet", file.relative_to(self.root).as_posix())
        data = read_cloud(file, self.points_per_mesh, draws)
        if data.get("normal") is None:
            raise CloudError(f"{file}: expected a mesh with faces, found {len(data.pos)} vertices without any")
        return data.pos.numpy(), data.normal.numpy()

    def _text(self, file: Path) -> tuple[np.ndarray, np.ndarray]:
        data = read_cloud(file)
        if data.get("normal") is None:
            raise CloudError(f"{file}: expected rows x,y,z,nx,ny,nz with unit normals; found others")
        return data.pos.numpy(), data.normal.numpy()


def _lines(file: Path) -> list[str]:
    """The file's lines that are not blank."""
    if not file.exists():
        raise CloudError(f"{file}: missing; expected {TREE}")
    lines = [line.strip() for line in read_bytes(file).decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        raise CloudError(f"{file}: the file has no entry")
    return lines


def _check_there(files: list[Path], source: str) -> None:
    missing = [file for file in files if not os.path.isfile(file)]  # also of a name that is too long
    if missing:
        others = f"as are {len(missing) - 1} other files that {source} lists"
        raise CloudError(f"{missing[0]}: missing, {others}; complete the folder")


def _check_size(size: int, num_points: int | None, file: Path) -> None:
    if num_points is not None and num_points > size:
        raise CloudError(f"{file}: its clouds have {size} points; num_points={num_points} is too many")


def _same_size(
    files: list[Path], read: Callable[[Path], tuple[np.ndarray, np.ndarray]], size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for file in files:
        pos, normal = read(file)
        if len(pos) != size:
            raise CloudError(f"{file}: expected {size} points, as in the other files; found {len(pos)}")
        yield pos, normal


def _labels(file: Path, num_classes: int) -> Tensor:
    """(n,) labels of one HDF5 file."""
    with open_hdf5(file) as stored:
        if "label" not in stored or "data" not in stored:
            raise CloudError(f"{file}: expected the keys data and label, found {sorted(stored)}")
        labels = stored["label"][()]
        if labels.dtype.kind not in "iu" or labels.size != len(stored["data"]):
            raise CloudError(f"{file}: expected {len(stored['data'])} labels, found {labels.shape} of {labels.dtype}")
    labels = torch.from_numpy(labels.reshape(-1).astype(np.int64))
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if len(wrong):
        raise CloudError(f"{file}: label {int(wrong[0])} is out of range; shape_names.txt has {num_classes} classes")
    return labels


def _read(file: Path, num_points: int | None) -> tuple[Tensor, Tensor | None]:
    """(n, P, 3) coordinates, and normals if there are any, of one HDF5 file."""
    with open_hdf5(file) as stored:
        data = stored["data"]
        if data.ndim != 3 or data.shape[2] != 3 or data.dtype.kind != "f":
            raise CloudError(f"{file}: expected data of shape (n, P, 3), found {data.shape} of {data.dtype}")
        _check_size(data.shape[1], num_points, file)
        arrays = [data[:, :num_points]]
        for i, cloud in enumerate(arrays[0] if data.dtype.itemsize > 4 else ()):
            check_precision(cloud, f"{file}, cloud {i}")
        if "normal" in stored:
            if stored["normal"].shape != data.shape:
                raise CloudError(f"{file}: normal has the shape {stored['normal'].shape}, but data {data.shape}")
            arrays.append(stored["normal"][:, :num_points])
    tensors = [torch.from_numpy(np.asarray(array, dtype=np.float32)) for array in arrays]
    for tensor, what in zip(tensors, ("cloud", "the normals of cloud"), strict=False):
        broken = (~torch.isfinite(tensor)).flatten(1).any(1).nonzero()
        if len(broken):
            check_cloud(tensor[broken[0, 0]], f"{file}, {what} {int(broken[0, 0])}")
    return tensors[0], tensors[1] if len(tensors) > 1 else None
