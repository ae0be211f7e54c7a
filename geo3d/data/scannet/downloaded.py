"""ScanNet as it is downloaded: the lists of the splits, the table of labels and the folders of the scenes."""

from collections.abc import Mapping
from pathlib import Path

from torch_geometric.data import Data

from geo3d.data.scannet.labels import TSV, raw_categories
from geo3d.data.scannet.limits import read_names
from geo3d.data.scannet.scene import MESH, aligned, mesh, ply_labels, segment_labels
from geo3d.errors import CloudError
from geo3d.io.files import existing_folder

LISTS = {"train": "scannetv2_train.txt", "test": "scannetv2_val.txt"}
"""The file with the names of the scenes of each split. The benchmark's own test split has no public labels."""
LABELS = f"{MESH}.labels.ply"
TREE = (
    f"scans/SCENE/SCENE{MESH}.ply, SCENE{MESH}.0.010000.segs.json, SCENE.aggregation.json and SCENE.txt; {TSV}; "
    + " and ".join(LISTS.values())
)


def recognised(root: Path) -> bool:
    """Whether a folder has the scenes as downloaded."""
    return (root / "scans").is_dir()


def scene_folders(root: Path, split: str) -> list[Path]:
    """The folders of the scenes of a split, in the order of its list.

    Raises:
        CloudError: If the list or a scene is missing.
    """
    return listed_folders(root, existing_folder(root / "scans", TREE), split)


def listed_folders(root: Path, scans: Path, split: str) -> list[Path]:
    """The folders in ``scans`` of the scenes that the list of a split in ``root`` names.

    Raises:
        CloudError: If the list or a scene is missing.
    """
    names = read_names(root / LISTS[split])
    missing = [name for name in names if not (scans / name).is_dir()]
    if missing:
        raise CloudError(
            f"{scans}: {len(missing)} of the {len(names)} scenes of {LISTS[split]} are missing, {missing[0]} first"
        )
    return [scans / name for name in names]


def categories(root: Path, label_set: str) -> dict[str, int]:
    """The class of each raw category, from the table in the folder."""
    return raw_categories(root / TSV, label_set)


def mesh_file(folder: Path) -> Path:
    """The labelled mesh of a scene."""
    return folder / f"{folder.name}{MESH}.ply"


def read_scene(folder: Path, label_source: str, categories: Mapping[str, int], unknown: str, align: bool) -> Data:
    """``pos``, ``rgb``, ``point_y`` and, from segments, ``instance`` of the vertices of a scene.

    Args:
        folder: The scene's folder.
        label_source: ``segments`` or ``ply``.
        categories: The class of each raw category, for ``segments``.
        unknown: ``refuse`` or ``ignore`` raw categories that are not among them.
        align: Turn the walls along the axes.

    Raises:
        CloudError: If a file is missing or damaged, or they do not belong together.
    """
    cloud = mesh(folder)
    if label_source == "ply":
        cloud.point_y = ply_labels(folder, len(cloud.pos))
    else:
        cloud.point_y, cloud.instance = segment_labels(folder, categories, unknown, len(cloud.pos))
    return aligned(cloud, folder) if align else cloud
