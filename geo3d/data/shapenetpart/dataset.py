"""The data set: which of the two forms a folder has, and its clouds."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import Split, Up, checked
from geo3d.cloud import check_cloud
from geo3d.data.shapenetpart.archive import LISTS, NAMES, Archive
from geo3d.data.shapenetpart.parts import CATEGORIES, CLASSES, GROUPS, PARTS, check_categories, check_numbers
from geo3d.data.stacked import Stacked
from geo3d.data.targets import Classes, Target
from geo3d.errors import CloudError
from geo3d.io.axes import z_up
from geo3d.io.files import existing_folder, listing, read_lines
from geo3d.io.names import as_labels

STACKS = "{}_hdf5_file_list.txt"
TREE = (
    "either train_hdf5_file_list.txt, val_hdf5_file_list.txt, test_hdf5_file_list.txt and the .h5 files they name; "
    f"or {NAMES}, {LISTS}/shuffled_train_file_list.json (and val, test) and SYNSET/NAME.txt"
)


class ShapeNetPart(Dataset):
    """Objects of 16 classes with 50 parts (Yi et al., SIGGRAPH Asia 2016).

    The files in ``root`` show which of two forms it has: the HDF5 files of the PointNet release, with 2048 points of
    each object, or the text archive with normals (``shapenetcore_partanno_segmentation_benchmark_v0_normal``), in
    which objects differ in size. Labels of parts count through all classes; ``targets`` says which belong to which.

    Args:
        root: The folder.
        split: "train" or "test".
        val_in_train: Whether "train" includes the validation list, as published results do.
        up: The axis that points up in the files. Clouds come out z-up.

    Raises:
        CloudError: If the folder has neither form, or a file is missing, damaged or numbers classes or parts in
            another way. A damaged cloud raises the error when it is read.
    """

    classes = CLASSES

    @checked
    def __init__(self, root: str, split: Split = "train", val_in_train: bool = True, up: Up = "y") -> None:
        self.root, self.split, self.val_in_train, self.up = existing_folder(root, TREE), split, val_in_train, up
        lists = ("train", "val") if split == "train" and val_in_train else (split,)
        stacked, archive = any(self.root.glob(STACKS.format("*"))), (self.root / NAMES).exists()
        if stacked == archive:
            entries = "both" if stacked else ", ".join(sorted(p.name for p in self.root.iterdir())[:8]) or "nothing"
            raise CloudError(f"{self.root}: expected {TREE}; found {entries}")
        self.form = "hdf5" if stacked else "text"
        """"hdf5" or "text"."""
        self._clouds: Stacked | Archive = self._stacked(lists) if stacked else Archive(self.root, lists)

    def _stacked(self, lists: tuple[str, ...]) -> Stacked:
        if (self.root / CATEGORIES).exists():
            check_categories(self.root / CATEGORIES)
        check_numbers(self.root)
        files: list[Path] = []
        for name in lists:
            # the entries may name the folder in which the list was made
            files += [self.root / Path(line).name for line in read_lines(self.root / STACKS.format(name))]
        if len(set(files)) < len(files):
            raise CloudError(f"{self.root}: expected every file once in the lists of {' and '.join(lists)}")
        return Stacked(files, {"data": (-1, 3), "label": (), "pid": (-1,)})

    @cached_property
    def labels(self) -> Tensor:
        """(len,) int64 classes, from the lists, or the arrays of labels alone."""
        clouds = self._clouds
        return clouds.labels if isinstance(clouds, Archive) else clouds.labels("label", len(CLASSES))

    @property
    def targets(self) -> dict[str, Target]:
        """``y``, the class, and ``point_y``, the part; ``groups`` says which parts belong to which class."""
        return {"y": Classes(CLASSES), "point_y": Classes(PARTS, groups=GROUPS)}

    def __len__(self) -> int:
        return len(self._clouds)

    def source(self, index: int) -> str:
        """The file of cloud ``index``, with the number of the cloud if the file holds many."""
        return self._clouds.source(index)

    def __getitem__(self, index: int) -> Data:
        """``pos`` (N, 3), ``point_y`` (N,) and ``y`` (1,) of one object, and ``normal`` (N, 3) from text files."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"cloud {index} of {len(self)}")
        index %= len(self)
        source, label = self.source(index), self.labels[index]
        if isinstance(self._clouds, Archive):
            cloud = self._clouds.read(index)
        else:
            arrays = self._clouds.cloud(index)
            parts = torch.from_numpy(as_labels(arrays["pid"], f"{source}, pid"))
            cloud = Data(pos=torch.from_numpy(arrays["data"]), point_y=parts)
        check_cloud(cloud.pos, source)
        low, high = GROUPS[int(label)][0], GROUPS[int(label)][-1]
        wrong = cloud.point_y[(cloud.point_y < low) | (cloud.point_y > high)]
        if len(wrong):
            name = CLASSES[int(label)]
            raise CloudError(
                f"{source}: expected the parts {low} to {high} in a cloud of {name}; found {int(wrong[0])}"
            )
        cloud.y = label.reshape(1)
        return z_up(cloud, self.up)

    def manifest(self) -> dict[str, Any]:
        """What was read, as JSON types: form, split, up, counts, classes, and files with a hash of names and sizes."""
        counts = torch.bincount(self.labels, minlength=len(CLASSES)).tolist()
        return {
            "data": "shapenetpart",
            "form": self.form,
            "split": self.split,
            "val_in_train": self.val_in_train,
            "up": self.up,
            "num_clouds": len(self),
            "classes": dict(zip(CLASSES, counts, strict=True)),
            **listing(self._clouds.files, self.root),
        }
