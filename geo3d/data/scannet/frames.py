"""Single frames of ScanNet: what a depth camera sees of a room at one moment."""

import warnings
from pathlib import Path
from typing import Annotated, Any

from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import OneOf, Range, Split, checked
from geo3d.data.scannet.downloaded import listed_folders
from geo3d.data.scannet.exported import ARCHIVE, PROGRAM, Exported, is_exported
from geo3d.data.scannet.labels import CLASSES
from geo3d.data.scannet.recorded import Recorded
from geo3d.data.scannet.view import cloud_of
from geo3d.data.targets import Classes, Target
from geo3d.errors import CloudError
from geo3d.io.files import existing_folder, listing

BASES = ("scans", "scannet_frames_25k")
"""The folders that may hold the scenes; if there is neither, they lie in the root itself."""
TREE = (
    "scannetv2_train.txt, scannetv2_val.txt and scans/SCENE, scannet_frames_25k/SCENE or SCENE with SCENE.sens, "
    f"{PROGRAM[0]} or {ARCHIVE[0]}"
)


class ScanNetFrames(Dataset):
    """Single frames of ScanNet v2 (arXiv 1702.04405): the points that the depth camera saw, in metres, z up.

    Scenes are ``.sens`` files, or folders of images: those that ScanNet's SensorData.py exports, or those of the
    archive of 25,000 frames, which also have labels. Frames without a valid pose or without any depth are left out.
    Poses are read at the start, images when their frame is.

    Args:
        root: The folder with the lists of the splits, and the scenes in ``scans/``, ``scannet_frames_25k/`` or itself.
        split: "train", or "test" for the validation scenes.
        every: Take the frames whose number is divisible by this. The archive of 25,000 frames is taken whole.
        coordinates: ``world``: those of the scene's mesh, which all frames of a scene share. ``camera``: the camera at
            the origin, x right, y forward, z up if it is held level; ``frame`` leads back to the world.
        color: Read the colours. Points that the colour camera does not see are then left out.

    Raises:
        CloudError: If something is missing, or no frame is left. A damaged image raises the error when it is read.
    """

    classes: tuple[str, ...] = ()
    labels = None

    @checked
    def __init__(
        self,
        root: str,
        split: Split = "train",
        every: Annotated[int, Range(1, 100_000)] = 25,
        coordinates: Annotated[str, OneOf("world", "camera")] = "world",
        color: bool = True,
    ) -> None:
        self.root, self.split, self.every = existing_folder(root, TREE), split, every
        self.coordinates, self.color = coordinates, color
        folders = listed_folders(self.root, self._base(), split)
        self.scans = [_scan(folder, every, color) for folder in folders]
        self.items = [(number, i) for number, scan in enumerate(self.scans) for i in range(len(scan))]
        """Scan and frame of each cloud."""
        self.skipped = sum(scan.skipped for scan in self.scans)
        """How many frames were left out, because they have no valid pose or no depth."""
        if self.skipped:
            total = self.skipped + len(self.items)
            note = f"{self.root}: {self.skipped} of {total} frames have no valid pose or no depth, and are left out"
            warnings.warn(note, stacklevel=2)
        if not self.items:
            raise CloudError(f"{self.root}: no frame of the split {split} is left; give a smaller number every=...")
        self.labelled = self._labelled(folders)

    def _base(self) -> Path:
        """The folder that holds the scenes."""
        bases = [self.root / name for name in BASES if (self.root / name).is_dir()]
        if len(bases) > 1:
            raise CloudError(f"{self.root}: expected scenes in {' or '.join(BASES)}, found both; move one away")
        return bases[0] if bases else self.root

    def _labelled(self, folders: list[Path]) -> bool:
        """Whether the scenes have label images, after a check that all or none have."""
        without = [folder for folder, scan in zip(folders, self.scans, strict=True) if not scan.labelled]
        if 0 < len(without) < len(folders):
            raise CloudError(
                f"{without[0]}: expected a folder label, as other scenes have; {len(without)} of {len(folders)} lack it"
            )
        return not without

    @property
    def targets(self) -> dict[str, Target]:
        """``point_y``, if the scenes have label images: the 20 classes of the benchmark."""
        return {"point_y": Classes(CLASSES, ignore=-1)} if self.labelled else {}

    def __len__(self) -> int:
        return len(self.items)

    def source(self, index: int) -> str:
        """The file of a frame."""
        number, i = self.items[index]
        return self.scans[number].source(i)

    def __getitem__(self, index: int) -> Data:
        """``pos`` (N, 3) of one frame, with ``rgb`` (N, 3) from 0 to 1 and ``point_y`` (N,) if it has them."""
        number, i = self.items[index]
        return cloud_of(self.scans[number].view(i), self.coordinates, self.source(index))

    def manifest(self) -> dict[str, Any]:
        """Which frames are read and how, with a hash of the names and sizes of their files."""
        options = {"every": self.every, "coordinates": self.coordinates, "color": self.color}
        files = [path for scan in self.scans for path in scan.files()]
        counts = {"num_clouds": len(self), "skipped": self.skipped}
        return {"data": "scannet_frames", "split": self.split, **options, **counts, **listing(files, self.root)}


def _scan(folder: Path, every: int, color: bool) -> Exported | Recorded:
    """The frames of a scene, from whichever form its folder has."""
    sens, exported = folder / f"{folder.name}.sens", is_exported(folder)
    if exported and sens.exists():
        raise CloudError(f"{folder}: expected {sens.name} or a folder of images, found both; move one away")
    if not exported and not sens.exists():
        raise CloudError(f"{folder}: expected {sens.name}, {PROGRAM[0]} or {ARCHIVE[0]}, found none of them")
    return Exported(folder, every, color) if exported else Recorded(sens, every, color)
