"""Hands in depth pictures of one camera: what the readers of MSRA15, NYU and ICVL have in common."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.data.hands.from_depth import Camera, hand_cloud
from geo3d.data.targets import Joints, Target
from geo3d.io.files import listing


class HandPictures(Dataset, ABC):
    """``pos`` (N, 3) and ``joints`` (J, 3) of each depth picture, in metres in the camera's axes.

    A subclass declares ``data``, ``names``, ``camera`` and ``options``. Its constructor sets all other attributes.
    """

    classes: tuple[str, ...] = ()
    labels = None
    data: ClassVar[str]
    """The name of the data set."""
    names: ClassVar[tuple[str, ...]]
    """The J joints."""
    camera: ClassVar[Camera]
    options: ClassVar[tuple[str, ...]] = ("split", "cut", "center")
    """The constructor's arguments that decide what is delivered."""
    root: Path
    cut: float
    """Half the side of the cube that is cut out, in metres."""
    center: str
    """The middle of the cube, see :func:`geo3d.data.hands.from_depth.hand_cloud`."""
    files: list[Path]
    """The depth picture of each frame."""
    joints: Tensor
    """(n, J, 3) the joints of each frame, in metres in the camera's axes."""
    lists: list[Path]
    """The files that hold the joints."""

    @abstractmethod
    def depth(self, path: Path) -> Tensor:
        """(H, W) float32 metres of one depth picture, 0 where nothing was measured."""

    @property
    def targets(self) -> dict[str, Target]:
        """``joints``."""
        return {"joints": Joints(self.names)}

    def __len__(self) -> int:
        return len(self.files)

    def source(self, index: int) -> str:
        """The depth picture of a frame."""
        return str(self.files[index])

    def __getitem__(self, index: int) -> Data:
        """``pos`` (N, 3) and ``joints`` (J, 3) of one frame."""
        depth, joints = self.depth(self.files[index]), self.joints[index]
        return hand_cloud(depth, self.camera, joints, self.cut, self.center, self.source(index))

    def manifest(self) -> dict[str, Any]:
        """Which frames are read and how, with a hash of the names and sizes of their files."""
        chosen = {name: getattr(self, name) for name in self.options}
        return {"data": self.data, **chosen, "num_clouds": len(self), **listing([*self.files, *self.lists], self.root)}
