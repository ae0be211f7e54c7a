"""The data set: which of the two forms a folder has, and its clouds."""

from typing import Annotated, Any

from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import Range, Split, checked
from geo3d.data.s3dis.blocks import FILES, ROOMS, Blocks
from geo3d.data.s3dis.classes import AREAS, CLASSES
from geo3d.data.s3dis.rooms import Rooms
from geo3d.data.targets import Classes, Target
from geo3d.errors import CloudError
from geo3d.io.files import existing_folder, listing

TREE = (
    f"either {FILES}, {ROOMS} and the .h5 files they belong to; "
    "or Area_1/ROOM/coord.npy, color.npy and segment.npy, up to Area_6"
)


class S3DIS(Dataset):
    """Scanned rooms of six areas, 13 classes of points (Armeni et al., CVPR 2016).

    The files in ``root`` show which of two forms it has. In the HDF5 release (``indoor3d_sem_seg_hdf5_data``) a cloud
    is a block of 1 m x 1 m: ``pos`` is in metres, x and y from the middle of the block, and ``x`` holds six channels,
    colour and place in the room from 0 to 1, as published networks read them. Rotations leave ``x`` as it is. In
    Pointcept's folders a cloud is a whole room, in metres.

    Args:
        root: The folder.
        split: "test" takes the rooms of ``area``, "train" those of the five others.
        area: The area to test on. Area 5 is usual; a six-fold result needs all six.

    Raises:
        CloudError: If the folder has neither form, a file or an area is missing, or files do not fit each other. A
            damaged cloud raises the error when it is read.
    """

    classes: tuple[str, ...] = ()
    labels = None

    @checked
    def __init__(self, root: str, split: Split = "train", area: Annotated[int, Range(1, 6)] = 5) -> None:
        self.root, self.split, self.area = existing_folder(root, TREE), split, area
        areas = frozenset([area]) if split == "test" else frozenset(AREAS) - {area}
        blocks, rooms = (self.root / FILES).exists(), any((self.root / f"Area_{k}").is_dir() for k in AREAS)
        if blocks == rooms:
            entries = "both" if blocks else ", ".join(sorted(p.name for p in self.root.iterdir())[:8]) or "nothing"
            raise CloudError(f"{self.root}: expected {TREE}; found {entries}")
        self.form = "blocks" if blocks else "rooms"
        """"blocks" or "rooms"."""
        self._clouds: Blocks | Rooms = Blocks(self.root, areas) if blocks else Rooms(self.root, areas)

    @property
    def targets(self) -> dict[str, Target]:
        """``point_y``: the 13 classes."""
        return {"point_y": Classes(CLASSES, ignore=-1)}

    def __len__(self) -> int:
        return len(self._clouds)

    def source(self, index: int) -> str:
        """The folder of a room; or the file of a block, its number in there, and its room."""
        return self._clouds.source(index)

    def __getitem__(self, index: int) -> Data:
        """``pos`` (N, 3), ``rgb`` (N, 3) from 0 to 1 and ``point_y`` (N,).

        A block has ``x`` (N, 6), too. A room has ``normal`` (N, 3) and ``instance`` (N,), objects counted from 1 on and
        0 for none, where there are such files.
        """
        return self._clouds.read(self._at(index))

    def read_with(self, index: int) -> dict[int, Data]:
        """Cloud ``index`` and the clouds read with it, by index: blocks that are compressed together."""
        index = self._at(index)
        return self._clouds.read_with(index) if isinstance(self._clouds, Blocks) else {index: self._clouds.read(index)}

    def _at(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"cloud {index} of {len(self)}")
        return index % len(self)

    def manifest(self) -> dict[str, Any]:
        """What was read, as JSON types: form, split, area, count, and files with a hash of names and sizes."""
        described = {"data": "s3dis", "form": self.form, "split": self.split, "area": self.area}
        return described | {"num_clouds": len(self)} | listing(self._clouds.files, self.root)
