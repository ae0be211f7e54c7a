"""DexYCB: hands that grasp objects, seen by eight depth cameras."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import OneOf, Split, checked
from geo3d.data.hands.dexycb_files import HEIGHT, WIDTH, Recording, read_camera, read_labels, read_recording
from geo3d.data.hands.dexycb_setups import SERIALS, SETUPS, Division, sequence_folders
from geo3d.data.hands.from_depth import Center, Cut, hand_cloud, metres
from geo3d.data.hands.skeleton import JOINTS
from geo3d.data.targets import Joints, Target
from geo3d.errors import CloudError
from geo3d.io.files import existing_folder, listing

TREE = "20200709-subject-01/SEQUENCE/SERIAL/aligned_depth_to_color_000000.png, ... and calibration/intrinsics"
MIRROR = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0], dtype=torch.float64))
"""From a mirrored left hand back to the camera's axes."""
NO_ITEMS = np.zeros((0, 3), np.int32)


class DexYCB(Dataset):
    """Hands of ten people that grasp objects (Chao et al., arXiv 2104.04631): ``pos`` and ``joints`` (21, 3).

    Coordinates are metres in the camera's axes (x right, y down, z forward). Left hands are mirrored in x, so that each
    cloud is a right hand; ``frame`` then leads back to the camera's axes. Frames without a hand are left out.

    Args:
        root: The folder with the people's folders and ``calibration``.
        split: "train" or "test" of the setup. The validation split is neither.
        setup: What is new in testing: ``s0`` nothing but the sequences, ``s1`` people, ``s2`` cameras, ``s3`` objects.
        side: Take ``both`` hands, or only the ``right`` or the ``left`` ones.
        cut: Half the side of the cube that is cut out, in metres.
        center: The middle of the cube. ``joints``: the mean of the true joints, which uses a part of the answer.
            ``points``: the mass of points nearest to the camera.
        only_hand: Leave out points of objects and of the rest, by the labels of pixels. This, too, uses what is not
            known of new pictures.

    Raises:
        CloudError: If the folder lacks files, or no frame is left. A damaged frame raises the error when it is read.
    """

    classes: tuple[str, ...] = ()
    labels = None

    @checked
    def __init__(
        self,
        root: str,
        split: Split = "train",
        setup: Annotated[str, OneOf(*SETUPS)] = "s0",
        side: Annotated[str, OneOf("both", "right", "left")] = "both",
        cut: Cut = 0.125,
        center: Center = "joints",
        only_hand: bool = False,
    ) -> None:
        self.root, self.split, self.setup, self.side = existing_folder(root, TREE), split, setup, side
        self.cut, self.center, self.only_hand = cut, center, only_hand
        division = SETUPS[setup][split]
        recordings = [read_recording(folder) for folder in sequence_folders(self.root, division)]
        self.recordings = [each for each in recordings if side in ("both", each.side)]
        """The sequences with a hand of the wanted side."""
        self.other_side = sum(
            len(_cameras(each, division)) * len(each.hand) for each in recordings if side not in ("both", each.side)
        )
        """How many frames were left out, because they are of the other hand."""
        self.without_hand = sum(len(_cameras(each, division)) * int((~each.hand).sum()) for each in self.recordings)
        """How many frames were left out, because they have no hand."""
        self.items = np.concatenate([_items(i, each, division) for i, each in enumerate(self.recordings)] or [NO_ITEMS])
        """(n, 3) sequence, camera and number of each frame."""
        if not len(self.items):
            raise CloudError(
                f"{self.root}: no frame of the split {split} of setup {setup} is left; {self.without_hand} have no "
                f"hand, {self.other_side} the other hand; give another setup or side"
            )
        used = sorted(set(self.items[:, 1].tolist()))
        self.cameras = {number: read_camera(self.root, SERIALS[number]) for number in used}

    @property
    def targets(self) -> dict[str, Target]:
        """``joints``."""
        return {"joints": Joints(JOINTS)}

    def __len__(self) -> int:
        return len(self.items)

    def _file(self, index: int, name: str) -> Path:
        recording, camera, frame = self.items[index].tolist()
        return self.recordings[recording].folder / SERIALS[camera] / name.format(frame)

    def source(self, index: int) -> str:
        """The depth picture of a frame."""
        return str(self._file(index, "aligned_depth_to_color_{:06d}.png"))

    def __getitem__(self, index: int) -> Data:
        """``pos`` (N, 3) and ``joints`` (21, 3) of one frame, and ``frame`` (4, 4) if it is a mirrored left hand."""
        recording, camera, _ = self.items[index].tolist()
        joints, hand = read_labels(self._file(index, "labels_{:06d}.npz"), self.only_hand)
        depth = metres(Path(self.source(index)), WIDTH, HEIGHT)
        depth = depth if hand is None else depth * hand
        cloud = hand_cloud(depth, self.cameras[camera], joints, self.cut, self.center, self.source(index))
        if self.recordings[recording].side == "right":
            return cloud
        mirror = cloud.pos.new_tensor([-1.0, 1.0, 1.0])
        return Data(pos=cloud.pos * mirror, joints=cloud.joints * mirror, frame=MIRROR.clone())

    def manifest(self) -> dict[str, Any]:
        """Which frames are read and how, how many are left out, and a hash of the names and sizes of their files."""
        options = {name: getattr(self, name) for name in ("split", "setup", "side", "cut", "center", "only_hand")}
        counts = {"num_clouds": len(self), "without_hand": self.without_hand, "other_side": self.other_side}
        files = [Path(self.source(index)) for index in range(len(self))]
        return {"data": "dexycb", **options, **counts, **listing(files, self.root)}


def _cameras(recording: Recording, division: Division) -> list[int]:
    """The cameras of a sequence that belong to a split."""
    return [SERIALS.index(serial) for serial in recording.serials if serial in division.serials]


def _items(place: int, recording: Recording, division: Division) -> np.ndarray:
    """(n, 3) the frames of sequence ``place`` that have a hand, camera by camera."""
    frames = np.flatnonzero(recording.hand)
    rows = [(place, camera, frame) for camera in _cameras(recording, division) for frame in frames]
    return np.array(rows, np.int32).reshape(-1, 3)
