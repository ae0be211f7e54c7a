"""The data set: which scenes there are, and their clouds."""

from pathlib import Path
from typing import Annotated, Any

from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import OneOf, Split, checked
from geo3d.data.scannet import downloaded, pointcept
from geo3d.data.scannet.labels import LABEL_SETS
from geo3d.data.scannet.limits import fingerprint, kept_points, kept_scenes, only
from geo3d.data.targets import Classes, Target
from geo3d.errors import CloudError, ConfigError
from geo3d.io.files import existing_folder, listing


class ScanNet(Dataset):
    """Rooms of ScanNet v2 (arXiv 1702.04405): the vertices of each scene's mesh, in metres, z up.

    The folder is read as downloaded, or as Pointcept stores it: ``train/SCENE`` and ``val/SCENE`` with ``coord.npy``,
    ``color.npy``, ``normal.npy``, ``segment20.npy``, ``segment200.npy`` and ``instance.npy``.

    Args:
        root: The folder with ``scans/``, the lists of the splits and the table of labels; or with ``train/``, ``val/``.
        split: "train", or "test" for the validation scenes.
        label_source: Where the class of a vertex comes from: ``segments`` (the annotated objects, as in the
            benchmark), or ``ply`` (``SCENE_vh_clean_2.labels.ply``). They differ for some vertices.
        unknown: Whether to ``refuse`` or ``ignore`` objects whose raw category is not in the table.
        align: Turn the walls along the axes, by the matrix that ``SCENE.txt`` holds for most scenes.
        label_set: The classes: the 20 of ``scannet20``, or the 200 of ``scannet200`` (arXiv 2204.07761).
        scenes: A list of the training scenes to keep (limited reconstruction): a text file with a name in each line, or
            a JSON list. The test split is not limited.
        points: The vertices of each training scene whose labels are kept (limited annotation): JSON
            ``{scene: [index, ...]}``, or NPZ with an array for each scene. All other labels become -1, also those of
            scenes that are not in the file. The test split is not limited.

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
        label_set: Annotated[str, OneOf("scannet20", "scannet200")] = "scannet20",
        scenes: str | Path | None = None,
        points: str | Path | None = None,
    ) -> None:
        self.root, self.split, self.label_source = existing_folder(root, downloaded.TREE), split, label_source
        self.unknown, self.align, self.label_set, self.scenes, self.points = unknown, align, label_set, scenes, points
        if label_source == "ply" and label_set == "scannet200":
            raise ConfigError(
                "ScanNet: label_source=ply: the labels of the mesh are 40 classes, not 200; give label_source=segments"
            )
        self.by_pointcept = self._by_pointcept()
        """Whether the folder is in Pointcept's layout."""
        whole = (pointcept if self.by_pointcept else downloaded).scene_folders(self.root, split)
        known = {folder.name for folder in whole}
        limited = split == "train"
        kept = kept_scenes(scenes, known) if scenes is not None and limited else known
        self.kept = kept_points(points, known) if points is not None and limited else None
        """For each scene the vertices whose labels are kept; None for all."""
        self.folders = [folder for folder in whole if folder.name in kept]
        from_segments = label_source == "segments" and not self.by_pointcept
        self.categories = downloaded.categories(self.root, label_set) if from_segments else {}

    def _by_pointcept(self) -> bool:
        """Whether the folder is in Pointcept's layout, after a check that the options fit it."""
        if not pointcept.recognised(self.root):
            return False
        if downloaded.recognised(self.root):
            raise CloudError(f"{self.root}: expected scans/ or Pointcept's train/ and val/, found both; move one away")
        if self.label_source != "segments" or self.align:
            option = "align=true" if self.align else f"label_source={self.label_source}"
            raise ConfigError(f"ScanNet: {option} needs the downloaded scenes; {self.root} is in Pointcept's layout")
        return True

    @property
    def targets(self) -> dict[str, Target]:
        """``point_y``: the classes of the benchmark, 20 or 200."""
        return {"point_y": Classes(tuple(LABEL_SETS[self.label_set].classes.values()), ignore=-1)}

    def __len__(self) -> int:
        return len(self.folders)

    def source(self, index: int) -> str:
        """The folder of a scene."""
        return str(self.folders[index])

    def __getitem__(self, index: int) -> Data:
        """One scene: ``pos`` (N, 3), ``rgb`` (N, 3) from 0 to 1, ``point_y`` (N,) and ``instance`` (N,).

        Row i is vertex i. Instances count the objects from 1 on; 0 stands for none. With ``label_source=ply`` there are
        none. Pointcept's layout may have ``normal`` (N, 3), too, and may lack instances.
        """
        folder = self.folders[index]
        if self.by_pointcept:
            cloud = pointcept.read_scene(folder, self.label_set)
        else:
            cloud = downloaded.read_scene(folder, self.label_source, self.categories, self.unknown, self.align)
        if self.kept is not None and self.points is not None:
            rows = self.kept.get(folder.name, cloud.point_y.new_zeros(0))
            cloud.point_y = only(cloud.point_y, rows, self.points, folder.name)
        return cloud

    def manifest(self) -> dict[str, Any]:
        """Which scenes are read and how, with a hash of the names and sizes of their files."""
        if self.by_pointcept:
            files = [path for folder in self.folders for path in pointcept.arrays_of(folder)]
        else:
            files = [downloaded.mesh_file(folder) for folder in self.folders]
        options = {"label_source": self.label_source, "unknown": self.unknown, "align": self.align}
        options |= {"label_set": self.label_set}
        limits = {} if self.kept is None or self.points is None else {"points": fingerprint(self.points)}
        return {"data": "scannet", "split": self.split, **options, **limits, **listing(files, self.root)}
