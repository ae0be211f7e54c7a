"""ScanObjectNN: objects cut out of scans of rooms, for classification."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import OneOf, Split, Up, checked
from geo3d.cloud import check_cloud
from geo3d.data.stacked import Stacked
from geo3d.data.targets import Classes, Target
from geo3d.errors import CloudError
from geo3d.io.axes import z_up
from geo3d.io.files import existing_folder, listing
from geo3d.io.hdf5 import open_hdf5

CLASSES = (
    "bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table", "bed", "pillow", "sink",
    "sofa", "toilet",
)  # fmt: skip
NAMES = {
    "obj_bg": "objectdataset",
    "obj_only": "objectdataset",
    "pb_t25": "objectdataset_augmented25_norot",
    "pb_t25_r": "objectdataset_augmented25rot",
    "pb_t50_r": "objectdataset_augmentedrot",
    "pb_t50_rs": "objectdataset_augmentedrot_scale75",
}
"""The name of the files of each variant, behind ``training_`` or ``test_``."""
WHOLE, CUT = "main_split", "main_split_nobg"
"""The folders of the clouds with the background around the object, and without it."""
BACKGROUND = -1
"""The value of ``mask`` at points of the background."""


class ScanObjectNN(Dataset):
    """Real, partial scans of objects of 15 classes, 2048 points each (Uy et al., arXiv 1908.04616).

    Args:
        root: The folder that holds ``main_split`` and ``main_split_nobg``, perhaps in ``h5_files``; or one of these.
        split: "train" or "test" of the main split.
        variant: Which clouds. ``obj_bg``: the object with what stands around it in its box. ``obj_only``: the same
            objects without these points of the background. The others are copies of ``obj_bg`` cut out by a box that
            is moved by up to 25 % (``pb_t25``) or 50 % of its size, turned about the up axis (``r``), and scaled
            (``s``); ``pb_t50_rs``, the hardest, is the usual benchmark.
        up: The axis that points up in the files. Clouds come out z-up.

    Raises:
        CloudError: If the file of the variant is missing, damaged, or holds clouds of the other kind of background.
    """

    classes = CLASSES

    @checked
    def __init__(
        self, root: str, split: Split = "train", variant: Annotated[str, OneOf(*NAMES)] = "obj_bg", up: Up = "y"
    ) -> None:
        self.root, self.split, self.variant, self.up = existing_folder(root), split, variant, up
        self.file = self._file()
        """The file of this split and variant."""
        self._clouds = Stacked([self.file], {"data": (-1, 3), "label": ()})

    def _file(self) -> Path:
        """The file in the folder of the variant, or in ``root`` itself, if its clouds are of the right kind."""
        name = f"{'training' if self.split == 'train' else 'test'}_{NAMES[self.variant]}.h5"
        folder, other = (CUT, WHOLE) if self.variant == "obj_only" else (WHOLE, CUT)
        for inner in (folder, f"h5_files/{folder}"):
            if (self.root / inner / name).is_file():
                return self.root / inner / name
        if not (self.root / name).is_file():
            raise CloudError(f"{self.root}: no {name}; expected it in {folder}, h5_files/{folder} or the folder itself")
        here = self.root.resolve().name
        if here == other or (here != folder and _has_background(self.root / name) == (folder == CUT)):
            kind = "without" if folder == CUT else "with"
            raise CloudError(f"{self.root / name}: expected clouds {kind} background; give the folder {folder}")
        return self.root / name

    @cached_property
    def labels(self) -> Tensor:
        """(len,) int64."""
        return self._clouds.labels("label", len(CLASSES))

    @property
    def targets(self) -> dict[str, Target]:
        """``y``."""
        return {"y": Classes(CLASSES)}

    def __len__(self) -> int:
        return len(self._clouds)

    def source(self, index: int) -> str:
        """The file, and the number of the cloud in it."""
        return self._clouds.source(index)

    def __getitem__(self, index: int) -> Data:
        """``pos`` (N, 3) and ``y`` (1,) of one object."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"cloud {index} of {len(self)}")
        index %= len(self)
        pos = torch.from_numpy(self._clouds.cloud(index)["data"])
        check_cloud(pos, self.source(index))
        return z_up(Data(pos=pos, y=self.labels[index].reshape(1)), self.up)

    def manifest(self) -> dict[str, Any]:
        """What was read, as JSON types: split, variant, up, counts, classes, and the file's name and size."""
        counts = torch.bincount(self.labels, minlength=len(CLASSES)).tolist()
        return {
            "data": "scanobjectnn",
            "split": self.split,
            "variant": self.variant,
            "up": self.up,
            "num_clouds": len(self),
            "classes": dict(zip(CLASSES, counts, strict=True)),
            **listing([self.file], self.root),
        }


def _has_background(path: Path) -> bool:
    """Whether any point of a file belongs to the background."""
    with open_hdf5(path) as stored:
        mask = stored.get("mask")
        if mask is None:
            raise CloudError(f"{path}: no mask says which points are background; name the folder {WHOLE} or {CUT}")
        return any(bool((mask[i : i + 256] == BACKGROUND).any()) for i in range(0, len(mask), 256))
