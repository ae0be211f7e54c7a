"""The job that finds the joints of one hand, in a depth picture or a cloud."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from geo3d.checkpoint.open import Checkpoint
from geo3d.checks import Length, OneOf, Range
from geo3d.data.hands.from_depth import Camera, cloud_of_depth, cropped, nearest_mass
from geo3d.deploy.hand_tracker import CUT, hand_joints
from geo3d.errors import CheckpointError, ConfigError
from geo3d.heads.prediction import Prediction
from geo3d.io import read_cloud
from geo3d.io.files import replacing
from geo3d.io.image import read_integers
from geo3d.pose_metrics import MILLIMETRES

Numbers = Annotated[Sequence[Annotated[float, Range(-1e6, 1e6)]], Length(4, 4)]
Place = Annotated[Sequence[Annotated[float, Range(-1000, 1000)]], Length(3, 3)]
Side = Annotated[str, OneOf("right", "left")]


class Hand(NamedTuple):
    """Where one hand is."""

    depth: str | Path | None
    """A PNG file of 16 bits; None for a cloud."""
    camera: Sequence[float] | None
    """fx, fy, cx, cy in pixels."""
    depth_scale: float | None
    """Metres for each unit of the picture; None for millimetres."""
    center: Sequence[float] | None
    """The middle of the cube around the hand, in metres; None to find it."""
    cut: float | None
    """Half the side of the cube, in metres; None for that of the training."""
    side: str
    """``right`` or ``left``."""


def predict_pose(
    opened: Checkpoint, cloud: str | Path | None, hand: Hand, *, out: Path, scale: float, device: str
) -> dict[str, Any]:
    """The joints of one hand, which are also written to a JSON file.

    The file holds ``joints_mm`` (J, 3) in the axes of the camera or the cloud, ``names`` (J,) and ``std_mm`` (J,), the
    predicted standard deviation of each coordinate.

    Args:
        opened: A checkpoint of ``geo3d finetune task=hand_pose``.
        cloud: A file with the points of one hand; None for a depth picture.
        hand: Where the hand is.
        out: The file to write.
        scale: Length of the cloud's unit in metres.
        device: Where the network runs.

    Raises:
        ConfigError: If ``out`` is no JSON file, or not just one of cloud and depth is given.
        CheckpointError: If the checkpoint has no joints.
        CloudError: If the file cannot be read, or no point is left.
    """
    names = opened.card.get("joints")
    if names is None or opened.head is None:
        raise CheckpointError(f"{opened.folder}: finds no joints; train a network with geo3d finetune task=hand_pose")
    if out.suffix.lower() != ".json":
        raise ConfigError(f"out={out}: joints are written as .json; give out=NAME.json")
    if (cloud is None) == (hand.depth is None):
        raise ConfigError("give a depth picture, depth=FILE.png camera=[fx,fy,cx,cy], or a cloud, cloud=FILE")
    if cloud is not None and (hand.camera is not None or hand.depth_scale is not None):
        raise ConfigError("camera, depth_scale: belong to a depth picture; leave them out, or give depth=FILE.png")
    if cloud is not None and hand.cut is not None and hand.center is None:
        raise ConfigError("cut: a cloud is cut around a place; give center=[x,y,z], too")
    if cloud is None and scale != 1:
        raise ConfigError("scale: is the unit of a cloud; give depth_scale, the unit of the picture in metres")
    source = str(hand.depth if cloud is None else cloud)
    pos = _measured(hand) if cloud is None else scale * read_cloud(cloud).pos.float()
    if cloud is None or hand.center is not None:
        center = nearest_mass(pos) if hand.center is None else pos.new_tensor(hand.center)
        cut = float(opened.card.get("cut", CUT)) if hand.cut is None else hand.cut
        pos = pos[cropped(pos, center, cut, source)]
    predicted = _predicted(opened, pos, hand.side == "left", source, device)
    written = {
        "joints_mm": (MILLIMETRES * predicted.joints).tolist(),
        "names": list(names),
        "std_mm": (MILLIMETRES * predicted.std).tolist(),
    }
    with replacing(out) as draft:
        draft.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return {
        "out": str(out),
        "points": len(pos),
        "steps": int(predicted.steps),
        "std_mm": float(np.mean(written["std_mm"])),
    }


def _measured(hand: Hand) -> Tensor:
    """(N, 3) the points of a depth picture, in metres in the camera's axes."""
    if hand.camera is None:
        raise ConfigError("depth: its points need the camera; give camera=[fx,fy,cx,cy] in pixels")
    assert hand.depth is not None
    depth = torch.from_numpy(read_integers(hand.depth, 16).astype(np.float32)) * (hand.depth_scale or 0.001)
    return cloud_of_depth(depth, Camera(*(float(number) for number in hand.camera)), str(hand.depth))


def _predicted(opened: Checkpoint, pos: Tensor, mirrored: bool, source: str, device: str) -> Prediction:
    """Joints (J, 3) and their uncertainty (J,) in the coordinates of ``pos``; a left hand is seen as a right one."""
    flip = pos.new_tensor([-1.0, 1.0, 1.0] if mirrored else [1.0, 1.0, 1.0])
    network = opened.encoder.to(device), opened.head.to(device)  # type: ignore[union-attr]
    seen = hand_joints(*network, opened.card, pos * flip, source, device=device)
    return seen._replace(joints=seen.joints * flip)
