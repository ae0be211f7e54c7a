"""Joints of a hand that moves before a camera, frame after frame."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from geo3d.checkpoint.open import open_checkpoint
from geo3d.checks import Range, Share, checked
from geo3d.cloud import Features, check_cloud, collate
from geo3d.data.hands.from_depth import Camera, Cut, cloud_of_depth, cropped, nearest_mass
from geo3d.data.prepared import prepare
from geo3d.deploy.joint_filter import JointFilter
from geo3d.deploy.program.program import Program
from geo3d.deploy.program.refiner import RefinerProgram
from geo3d.deploy.runtime import Runtime
from geo3d.errors import CheckpointError, CloudError, ConfigError
from geo3d.heads import JointRefiner
from geo3d.heads.prediction import Head, Prediction, estimates
from geo3d.seeds import generator

MOVES = 0.008
"""Chosen with moving training hands that take 60 or 15 frames from one pose to the next; 6 to 9 mm were alike."""
TYPICAL = 1024
"""Points of a cloud with which the forms of a compiled encoder are timed, for networks that take clouds of any size."""
CUT = 0.125
"""Half the side of the cube around a hand in metres, for networks that do not say theirs."""


class HandTracker:
    """Finds the joints of a right hand in each frame of a depth camera, in metres in the camera's axes.

    Each frame is cut out around the joints of the frame before, and its joints are combined with those of the frames
    before, see :class:`geo3d.deploy.joint_filter.JointFilter`. For the first frame, after :meth:`reset` and after a
    frame that raises an error, the hand is the mass nearest to the camera.

    Args:
        checkpoint: A network of ``geo3d finetune task=hand_pose``.
        budget_ms: Time for the encoder in milliseconds. Of the settings of an adaptive encoder the most accurate one
            that keeps it is used, see :class:`geo3d.deploy.runtime.Runtime`. None for no limit.
        moves: How far a joint moves from one frame to the next beside the motion of the whole hand: standard deviation
            along each axis in metres. None gives the joints of each frame as the network finds them.
        steps: Steps of a JointRefiner; None for those of its training.
        exit_below: The refinement stops when the probability that a further step helps is below this; None for what
            the head was trained with.
        cut: Half the side of the cube around the hand in metres; None for that of the training.

    Raises:
        CheckpointError: If the checkpoint finds no joints.
        ConfigError: If an option is out of its range or does not fit the head, or no setting keeps the budget.
    """

    @checked
    def __init__(
        self,
        checkpoint: str | Path,
        *,
        budget_ms: Annotated[float, Range(0, 1e6, above=True)] | None = None,
        moves: Annotated[float, Range(0, 1)] | None = MOVES,
        steps: Annotated[int, Range(0, 100)] | None = None,
        exit_below: Share | None = None,
        cut: Cut | None = None,
    ) -> None:
        opened = open_checkpoint(checkpoint)
        if opened.card.get("joints") is None or opened.head is None:
            raise CheckpointError(f"{opened.folder}: finds no joints; give a network of geo3d finetune task=hand_pose")
        self.names: list[str] = opened.card["joints"]
        self.refines = isinstance(opened.head, JointRefiner)
        self._joints: Head = RefinerProgram(opened.head) if isinstance(opened.head, JointRefiner) else opened.head
        self.head: Any = self._joints.head if isinstance(self._joints, RefinerProgram) else opened.head
        for name, value in (("steps", steps), ("exit_below", exit_below)):
            if value is not None and not self.refines:
                raise ConfigError(f"{name}: a {type(self.head).__name__} does not refine; leave it out")
            if value is not None:
                setattr(self.head, name, value)
        self.card, points = opened.card, opened.card["input"]["num_points"]
        self.encoder: Callable[[Batch], Features]
        if budget_ms is None:
            self.encoder = Program(opened.encoder, num_points=points or TYPICAL)
        else:
            if points is None:
                raise ConfigError("budget_ms: needs clouds of one size; train with data.num_points=N")
            self.encoder = runtime = Runtime(opened.encoder, num_points=points)
            runtime.set_budget(budget_ms)
        self.cut = float(opened.card.get("cut", CUT)) if cut is None else cut
        self.filter = None if moves is None else JointFilter(moves)
        self.last: Tensor | None = None
        """(J, 3) joints of the last frame; None before the first."""

    def reset(self) -> None:
        """Forget the frames so far."""
        self.last = None

    def depth(self, depth: Tensor, camera: Camera) -> Prediction:
        """The joints (J, 3), their uncertainty (J,) and the steps () of the next frame.

        Args:
            depth: (H, W) floats, metres along the camera's axis, 0 where nothing was measured.
            camera: The camera of this picture.

        Raises:
            CloudError: If the picture is damaged, or no point is near the hand.
        """
        before, self.last = self.last, None
        return self._followed(cloud_of_depth(depth.float(), camera, "frame"), before)

    def cloud(self, pos: Tensor) -> Prediction:
        """The same for the points (N, 3) of a frame, in metres in the camera's axes.

        Raises:
            CloudError: If the points are none or not finite, or none is near the hand.
        """
        before, self.last = self.last, None
        check_cloud(pos, "frame")
        return self._followed(pos.float(), before)

    def _followed(self, pos: Tensor, before: Tensor | None) -> Prediction:
        if before is None and self.filter is not None:
            self.filter.reset()
        center = nearest_mass(pos) if before is None else before.mean(0).to(pos)
        near = pos[cropped(pos, center, self.cut, "frame")]
        made = hand_joints(self.encoder, self._joints, self.card, near, "frame")
        if self.filter is not None:
            made = self.filter(made, near.mean(0))
        self.last = made.joints
        return made


@torch.inference_mode()  # a tenth faster than without gradients alone
def hand_joints(
    encoder: Callable[[Batch], Features],
    head: Head,
    card: dict[str, Any],
    pos: Tensor,
    source: str,
    device: str = "cpu",
) -> Prediction:
    """The joints (J, 3) of one right hand, their uncertainty (J,) and the steps (), in the coordinates of its points.

    Args:
        encoder: In evaluation mode, on the device.
        head: In evaluation mode, on the device.
        card: Of the checkpoint: how its clouds were prepared.
        pos: (N, 3) points of the hand alone, on the CPU.
        source: Their name, for messages.
        device: Where the network runs.

    Raises:
        CloudError: If the points are too few, not finite or all in one place.
    """
    said = card.get("input", {})
    if len(pos) < 2:
        raise CloudError(f"{source}: found {len(pos)} point, which is too few for a hand")
    count, normalize = said.get("num_points"), said.get("normalize", "unit_sphere")
    cloud = prepare(Data(pos=pos), source, count, normalize, generator("predict", 0), None)
    made = estimates(encoder, head, collate([cloud]).to(device), card.get("signs", 1))
    return Prediction(*(each[0].cpu() for each in made))
