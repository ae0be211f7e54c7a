"""The frames of a scan in a ``.sens`` file."""

from pathlib import Path

import torch

from geo3d.data.scannet.view import SMALL, View, check_extrinsic
from geo3d.geometry.camera import is_rigid
from geo3d.io.sens import Frame, Sens


class Recorded:
    """The usable frames of a ``.sens`` file, read one by one.

    Args:
        path: The file.
        every: Take the frames whose number is divisible by this.
        color: Whether to read the colours.

    Raises:
        CloudError: If the file is damaged or cut off, or its poses are not those of the cameras.
    """

    labelled = False

    def __init__(self, path: Path, every: int, color: bool) -> None:
        self.sens, self.color = Sens(path), color
        check_extrinsic(torch.from_numpy(self.sens.depth.extrinsic), "depth", str(path))
        if color:
            check_extrinsic(torch.from_numpy(self.sens.color.extrinsic), "colour", str(path))
        taken = list(self.sens.frames(every))
        self.frames = [frame for frame in taken if self._usable(frame)]
        self.skipped = len(taken) - len(self.frames)
        """How many frames were left out for their poses, or because they have no depth."""

    def _usable(self, frame: Frame) -> bool:
        """Whether a frame has a pose and any depth. Large images are not read: they have."""
        if not is_rigid(torch.from_numpy(frame.pose)) or not frame.depth_bytes:
            return False
        return frame.depth_bytes > SMALL or bool(self.sens.raw_depth(frame).any())

    def __len__(self) -> int:
        return len(self.frames)

    def source(self, index: int) -> str:
        """The file and the number of a frame."""
        return f"{self.sens.path}, frame {self.frames[index].number}"

    def files(self) -> list[Path]:
        """The file."""
        return [self.sens.path]

    def view(self, index: int) -> View:
        """The images of a frame."""
        frame, color = self.frames[index], self.sens.color
        return View(
            torch.from_numpy(self.sens.metres(frame)),
            torch.from_numpy(self.sens.depth.intrinsic),
            torch.from_numpy(frame.pose),
            torch.tensor(self.sens.colors(frame)) if self.color else None,
            None,
            torch.from_numpy(color.intrinsic),
            (color.width, color.height),
        )
