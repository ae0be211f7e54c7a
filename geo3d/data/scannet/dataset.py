"""The data set: which scenes there are, and their clouds."""

from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import OneOf, Split, checked
from geo3d.data.scannet.labels import CLASSES, TSV, raw_categories
from geo3d.data.scannet.scene import MESH, aligned, mesh, ply_labels, segment_labels
from geo3d.data.targets import Classes, Target
from geo3d.errors import CloudError
from geo3d.io.files import existing_folder, listing, read_bytes

LISTS = {"train": "scannetv2_train.txt", "test": "scannetv2_val.txt"}
"""The file with the names of the scenes of each split. The benchmark's own test split has no public labels."""
TREE = (
    f"scans/SCENE/SCENE{MESH}.ply, SCENE{MESH}.0.010000.segs.json, SCENE.aggregation.json and SCENE.txt; {TSV}; "
    + " and ".join(LISTS.values())
)


class ScanNet(Dataset):
    """Rooms of ScanNet v2 as downloaded (arXiv 1702.04405): the vertices of each scene's mesh, in metres, z up.

    Args:
        root: The folder with ``scans/``, the lists of the splits and the table of labels.
        split: "train", or "test" for the validation scenes.
        label_source: Where the class of a vertex comes from: ``segments`` (the annotated objects, as in the
            benchmark), or ``ply`` (``SCENE_vh_clean_2.labels.ply``). They differ for some vertices.
        unknown: Whether to ``refuse`` or ``ignore`` objects whose raw category is not in the table.
        align: Turn the walls along the axes, by the matrix that ``SCENE.txt`` holds for most scenes.

    Raises:
        CloudError: If something is missing. A damaged scene raises the error when it is read.
    """

    classes: tuple[str, ...] = ()
    labels = None

    @checked
    def __init__(
        self,
        root: str,
        split: Split = "train",
        label_source: Annotated[str, OneOf("segments", "ply")] = "segments",
        unknown: Annotated[str, OneOf("refuse", "ignore")] = "refuse",
        align: bool = False,
    ) -> None:
        self.root, self.split, self.label_source = existing_folder(root, TREE), split, label_source
        self.unknown, self.align = unknown, align
        names = self._listed(self.root / LISTS[split])
        scans = existing_folder(self.root / "scans", TREE)
        missing = [name for name in names if not (scans / name).is_dir()]
        if missing:
            raise CloudError(
                f"{scans}: {len(missing)} of the {len(names)} scenes of {LISTS[split]} are missing, {missing[0]} first"
            )
        self.folders = [scans / name for name in names]
        self.categories = raw_categories(self.root / TSV) if label_source == "segments" else {}

    @staticmethod
    def _listed(path: Path) -> list[str]:
        names = read_bytes(path).decode("utf-8", "replace").split()
        if not names or len(set(names)) < len(names) or any("/" in name or name.startswith(".") for name in names):
            raise CloudError(f"{path}: expected the name of a scene in each line, each once")
        return names

    @property
    def targets(self) -> dict[str, Target]:
        """``point_y``: the 20 classes of the benchmark."""
        return {"point_y": Classes(CLASSES, ignore=-1)}

    def __len__(self) -> int:
        return len(self.folders)

    def source(self, index: int) -> str:
        """The folder of a scene."""
        return str(self.folders[index])

    def __getitem__(self, index: int) -> Data:
        """``pos`` (N, 3), ``rgb`` (N, 3) from 0 to 1 and ``point_y`` (N,) of one scene; row i is vertex i."""
        folder = self.folders[index]
        cloud = mesh(folder)
        if self.label_source == "ply":
            cloud.point_y = ply_labels(folder, len(cloud.pos))
        else:
            cloud.point_y, _ = segment_labels(folder, self.categories, self.unknown, len(cloud.pos))
        return aligned(cloud, folder) if self.align else cloud

    def instances(self, index: int) -> Tensor:
        """(N,) int64 number of the object that each vertex of a scene belongs to, from 1 on; 0 for none."""
        folder = self.folders[index]
        if self.label_source == "ply":
            raise CloudError(f"{folder}: {MESH}.labels.ply holds no instances; give label_source=segments")
        count = len(mesh(folder).pos)
        return segment_labels(folder, self.categories, self.unknown, count)[1].to(torch.int64)

    def manifest(self) -> dict[str, Any]:
        """Which scenes are read and how, with a hash of the names and sizes of their meshes."""
        meshes = [folder / f"{folder.name}{MESH}.ply" for folder in self.folders]
        options = {"label_source": self.label_source, "unknown": self.unknown, "align": self.align}
        return {"data": "scannet", "split": self.split, **options, **listing(meshes, self.root)}
