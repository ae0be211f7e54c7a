"""Joints of prepared clouds, brought back to the coordinates that the clouds came from."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.cloud import Features
from geo3d.geometry.principal import sign_choices
from geo3d.geometry.rotation import rotate
from geo3d.heads.joints import Estimate

Head = Callable[[Features], Sequence[Estimate]]
"""One of the heads for joints, in evaluation, or its compiled form."""


class Prediction(NamedTuple):
    """What is predicted for a batch, in the coordinates of the clouds' sources."""

    joints: Tensor
    """(B, J, 3) float64."""
    std: Tensor
    """(B, J) float64 standard deviations of each coordinate."""
    steps: Tensor
    """(B,) estimates that the head made of each cloud until it stopped."""


def estimates(encoder: Callable[[Batch], Features], head: Head, batch: Batch, signs: int) -> Prediction:
    """The joints of a batch of prepared clouds, brought home by their frames.

    Args:
        encoder: In evaluation mode.
        head: In evaluation mode.
        batch: The clouds, with ``frame``.
        signs: 1, or 4 to average over the choices of signs, see ``geo3d.tasks.hand_pose``.
    """
    joints, variance, steps = [], [], []
    for choice in [None] if signs == 1 else sign_choices(batch.pos)[:signs]:
        turn = None if choice is None else choice.expand(len(batch.ptr) - 1, 3, 3)
        made = head(encoder(batch if turn is None else rotate(turn, batch)))
        joints.append(made[-1].joints if choice is None else made[-1].joints @ choice)
        variance.append((2 * made[-1].log_std.double()).exp())
        steps.append(steps_of(made))
    linear, shift = homeward(batch)
    scale = torch.linalg.det(linear).abs() ** (1 / 3)
    std = torch.stack(variance).mean(0).sqrt() * scale[:, None]
    return Prediction(torch.stack(joints).mean(0).double() @ linear.mT + shift, std, torch.stack(steps).amax(0))


def homeward(batch: Batch) -> tuple[Tensor, Tensor]:
    """(B, 3, 3) and (B, 1, 3) float64: ``p @ linear.mT + shift`` brings points of clouds back to their sources."""
    frame = batch.get("frame")
    if frame is None:  # clouds that were prepared without any change
        frame = torch.eye(4, dtype=torch.float64, device=batch.pos.device).repeat(len(batch.ptr) - 1, 1, 1)
    return frame[:, :3, :3], frame[:, None, :3, 3]


def steps_of(made: Sequence[Estimate]) -> Tensor:
    """(B,) how many estimates were made of each cloud; one that has stopped keeps its estimate."""
    joints = torch.stack([each.joints for each in made])
    return 1 + (joints[1:] != joints[:-1]).flatten(2).any(2).sum(0)
