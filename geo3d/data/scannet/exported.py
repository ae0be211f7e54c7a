"""The frames of a scan as image files, as SensorData.py exports them or as in the archive of 25k frames."""

import re
from pathlib import Path

import torch
from torch import Tensor

from geo3d.data.scannet.view import SMALL, View, check_extrinsic
from geo3d.errors import CloudError
from geo3d.geometry.camera import is_rigid
from geo3d.io.files import existing_file, existing_folder, read_bytes
from geo3d.io.image import image_size, read_colors, read_integers
from geo3d.io.numbers import numbers

ARCHIVE = ("intrinsics_depth.txt", "intrinsics_color.txt")
"""The camera matrices in the archive of 25k frames."""
PROGRAM = ("intrinsic/intrinsic_depth.txt", "intrinsic/intrinsic_color.txt")
"""The camera matrices that SensorData.py writes; one letter less."""
MILLIMETRES = 1000.0
NUMBER = re.compile(r"\d{1,9}", re.ASCII)


class Exported:
    """The usable frames of a scan in a folder of images, read one by one.

    Args:
        folder: The scene's folder, with ``depth/``, ``pose/`` and, for colours and labels, ``color/`` and ``label/``.
        every: Take the frames whose number is divisible by this; the archive of 25k frames is taken whole.
        color: Whether to read the colours.

    Raises:
        CloudError: If a file of a frame is missing, or a pose or a camera matrix is damaged.
    """

    def __init__(self, folder: Path, every: int, color: bool) -> None:
        self.folder, self.color = folder, color
        archive = (folder / ARCHIVE[0]).is_file()
        matrices = ARCHIVE if archive else PROGRAM
        self.intrinsic, self.color_intrinsic = (read_matrix(folder / name) for name in matrices)
        self.labelled = (folder / "label").is_dir()
        self._check_extrinsics()
        depths, poses = _numbered(folder / "depth", ".png"), _numbered(folder / "pose", ".txt")
        taken = [number for number in sorted({*depths, *poses}) if archive or int(number) % every == 0]
        self.poses = {number: read_matrix(folder / "pose" / f"{number}.txt") for number in taken}
        self.frames = [number for number in taken if number in depths and self._usable(number)]
        self.skipped = len(taken) - len(self.frames)
        """How many frames were left out for their poses, or because they have no depth."""
        self._check_images()

    def _check_extrinsics(self) -> None:
        for name, camera, needed in (("depth", "depth", True), ("color", "colour", self.color or self.labelled)):
            path = self.folder / "intrinsic" / f"extrinsic_{name}.txt"
            if needed and path.exists():
                check_extrinsic(read_matrix(path), camera, str(path))

    def _usable(self, number: str) -> bool:
        """Whether a frame has a pose and any depth. Large images are not read: they have."""
        if not is_rigid(self.poses[number]):
            return False
        path = existing_file(self._depth(number))
        return path.stat().st_size > SMALL or bool(read_integers(path, 16).any())

    def _check_images(self) -> None:
        """Check that every frame has a colour image and a label image, if they are read."""
        for name, suffix, needed in (("color", ".jpg", self.color), ("label", ".png", self.labelled)):
            there = _numbered(self.folder / name, suffix) if needed else set(self.frames)
            missing = [number for number in self.frames if number not in there]
            if missing:
                cure = "; give color=false to do without" if name == "color" else ""
                raise CloudError(
                    f"{self.folder / name}: {len(missing)} of {len(self.frames)} images are missing, "
                    f"{missing[0]}{suffix} first{cure}"
                )

    def __len__(self) -> int:
        return len(self.frames)

    def _depth(self, number: str) -> Path:
        return self.folder / "depth" / f"{number}.png"

    def source(self, index: int) -> str:
        """The depth image of a frame."""
        return str(self._depth(self.frames[index]))

    def files(self) -> list[Path]:
        """The depth images of all frames."""
        return [self._depth(number) for number in self.frames]

    def view(self, index: int) -> View:
        """The images of a frame."""
        number = self.frames[index]
        depth = torch.from_numpy(read_integers(self._depth(number), 16).astype("float32")) / MILLIMETRES
        picture = self.folder / "color" / f"{number}.jpg"
        colors = torch.tensor(read_colors(picture)) if self.color else None
        label = self.folder / "label" / f"{number}.png"
        labels = torch.tensor(read_integers(label, 8)) if self.labelled else None
        size = (0, 0)
        if colors is not None:
            size = (colors.shape[1], colors.shape[0])
        elif labels is not None:  # the camera matrix belongs to the colour image, of which the header is enough
            size = image_size(picture) if picture.exists() else (labels.shape[1], labels.shape[0])
        pose = self.poses[number]
        return View(depth, self.intrinsic, pose, colors, labels, self.color_intrinsic, size)


def is_exported(folder: Path) -> bool:
    """Whether a folder has the frames of a scan as image files.

    Raises:
        CloudError: If it has camera matrices of both layouts.
    """
    layouts = [names for names in (ARCHIVE, PROGRAM) if (folder / names[0]).is_file()]
    if len(layouts) > 1:
        raise CloudError(f"{folder}: expected {ARCHIVE[0]} or {PROGRAM[0]}, found both; keep one layout in a folder")
    return bool(layouts)


def read_matrix(path: Path) -> Tensor:
    """(4, 4) float64 the matrix in a text file of 16 numbers, which may be infinite or NaN.

    Raises:
        CloudError: If the file is missing, or holds something else.
    """
    values = numbers(read_bytes(path).split(), str(path))
    if len(values) != 16:
        raise CloudError(f"{path}: expected the 16 numbers of a matrix, found {len(values)}; the file may be cut off")
    return torch.from_numpy(values).view(4, 4)


def _numbered(folder: Path, suffix: str) -> set[str]:
    """The names without suffix of the files of frames in a folder, such as 25 or 000025.

    Raises:
        CloudError: If there is no such folder, or it has a file of this kind that is no frame.
    """
    names = {path.stem for path in existing_folder(folder).iterdir() if path.suffix == suffix and path.name[0] != "."}
    strange = sorted(name for name in names if not NUMBER.fullmatch(name))
    if strange or len({int(name) for name in names - set(strange)}) < len(names):
        raise CloudError(f"{folder}: expected files called NUMBER{suffix}, each number once; found {strange[:3]}")
    return names
