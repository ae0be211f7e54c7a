"""The job that labels every point of a cloud with a trained segmentation network."""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from geo3d.checkpoint import open_checkpoint
from geo3d.checkpoint.open import Checkpoint
from geo3d.checks import Range, Up, checked
from geo3d.cloud import with_
from geo3d.data.blocks import BlockSize
from geo3d.data.hands.from_depth import Cut
from geo3d.data.scannet.labels import CLASSES as SCANNET
from geo3d.data.scannet.labels import NUMBERS
from geo3d.errors import CheckpointError, CloudError, ConfigError, did_you_mean
from geo3d.geometry.frame import rescaled
from geo3d.io import read_cloud, write_cloud
from geo3d.io.axes import z_up
from geo3d.io.files import replacing
from geo3d.jobs.pose_predicting import Hand, Numbers, Place, Side, predict_pose
from geo3d.jobs.run import check_dtype
from geo3d.network import PointNetwork
from geo3d.show.progress import progress
from geo3d.tasks.dense import Division, point_probabilities, restricted

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@checked
def predict(
    checkpoint: str | Path,
    cloud: str | Path | None = None,
    *,
    out: str | Path,
    depth: str | Path | None = None,
    camera: Numbers | None = None,
    depth_scale: Annotated[float, Range(0, 1000, above=True)] | None = None,
    side: Side | None = None,
    center: Place | None = None,
    cut: Cut | None = None,
    up: Up = "z",
    votes: Annotated[int, Range(1, 1000)] = 1,
    category: str | None = None,
    block: BlockSize | None = None,
    steps: Annotated[int, Range(1, 16)] = 2,
    turns: Annotated[int, Range(1, 64)] = 1,
    scale: Annotated[float, Range(0, 1e9, above=True)] = 1.0,
) -> dict[str, Any]:
    """What was found in one cloud: the labels of all its points, or the joints of a hand; they are written to a file.

    An NPZ file holds ``label`` (N,), ``probability`` (N,) of the label, and ``classes``, the names; row i belongs to
    point i of the cloud's file. A PLY file holds the points in the file's coordinates with ``label``. A TXT file has
    the form of ScanNet's benchmark, an NYU40 number in each line; the network must have its 20 classes. For joints see
    :func:`geo3d.jobs.pose_predicting.predict_pose`.

    Args:
        checkpoint: A checkpoint of ``geo3d finetune task=segment`` or ``task=hand_pose``.
        cloud: A file with one cloud of any size.
        out: The file to write, ``NAME.npz``, ``NAME.ply`` or ``NAME.txt``; ``NAME.json`` for joints.
        depth: For a hand, in place of a cloud: a depth picture, a PNG file of one channel of 16 bits.
        camera: For a depth picture: ``[fx,fy,cx,cy]``, focal lengths and principal point in pixels.
        depth_scale: For a depth picture: metres for each unit; by default 0.001.
        side: For a hand: ``right`` (the default) or ``left``; a left one is mirrored before the network sees it.
        center: For a hand: the middle of the cube around it, in metres in the camera's axes (x right, y down, z
            forward). By default the mass nearest to the camera; a cloud is not cut unless it is given.
        cut: For a hand: half the side of the cube, in metres; by default that of the training.
        up: The axis that points up in the cloud's file, ``y`` or ``z``.
        votes: How often the cloud, or each block, is divided into subsets; their probabilities are averaged.
        category: For a network of parts, the class of the object.
        block: Side of the blocks into which the cloud is divided; by default that of the training, none if there was
            none.
        steps: A block begins every ``block / steps``, so that blocks overlap.
        turns: The cloud is labelled in this many poses, turned about the up axis.
        scale: Length of the cloud's unit in the unit of the training data: 0.001 for millimetres where that is metres.

    Raises:
        ConfigError: If ``out`` has another suffix, or the network needs a category, or has none.
        CheckpointError: If the checkpoint is missing, damaged, or not of a segmentation.
        CloudError: If the cloud cannot be read.
    """
    out = Path(out)
    check_dtype()
    opened = open_checkpoint(checkpoint)
    of_hands = {
        "depth": depth,
        "camera": camera,
        "depth_scale": depth_scale,
        "side": side,
        "center": center,
        "cut": cut,
    }
    if opened.card.get("joints"):
        of_points = {"up": up != "z", "votes": votes > 1, "category": category, "block": block, "turns": turns > 1}
        _leave_out(of_points | {"steps": steps != 2}, "labels of points; this checkpoint finds joints")
        hand = Hand(depth, camera, depth_scale, center, cut, side or "right")
        return predict_pose(opened, cloud, hand, out=out, scale=scale, device=DEVICE)
    if not opened.card.get("classes"):
        raise CheckpointError(
            f"{opened.folder}: expected a segmentation network, with decoder and head, or one of hand poses; train it "
            "with geo3d finetune task=segment or task=hand_pose"
        )
    _leave_out(of_hands, "joints of a hand; this checkpoint labels points")
    if cloud is None:
        raise ConfigError("cloud: a value is needed; give cloud=FILE")
    if out.suffix.lower() not in (".npz", ".ply", ".txt"):
        raise ConfigError(f"out={out}: labels are written as .npz, .ply or .txt; give out=NAME.npz")
    network, names = _network(opened), list(opened.card["classes"])
    if out.suffix.lower() == ".txt" and tuple(names) != SCANNET:
        raise ConfigError(f"out={out}: the network has other classes than the 20 of ScanNet; give out=NAME.npz")
    known = _category(opened, category)
    whole = read_cloud(cloud)
    convention = opened.card.get("input", {})
    seen = z_up(whole, up) if known is None else with_(z_up(whole, up), y=torch.tensor([known]))
    square = convention.get("block") if block is None else block
    division = Division(convention.get("num_points"), votes, square, steps, turns)
    seen = seen if scale == 1 else rescaled(seen, seen.pos.new_zeros(3), seen.pos.new_tensor(1 / scale))
    with progress("blocks") as watch:
        probabilities = point_probabilities(
            network.to(DEVICE), seen, str(cloud), division, normalize=convention.get("normalize", "unit_sphere"),
            pose=None, key=("predict", 0), device=DEVICE, watch=watch,
        )  # fmt: skip
    if known is not None:
        probabilities = restricted(probabilities, opened.card["groups"][known])
    probability, label = probabilities.max(1)
    _write(out, whole, label, probability, names)
    counts = torch.bincount(label, minlength=len(names)).tolist()
    return {"out": str(out), "points": len(label), "found": dict(zip(names, counts, strict=True))}


def _leave_out(given: dict[str, Any], belongs: str) -> None:
    """Check that no option of the other task is given."""
    if names := [name for name, value in given.items() if value not in (None, False)]:
        raise ConfigError(f"{', '.join(names)}: for {belongs}; leave it out")


def _network(opened: Checkpoint) -> PointNetwork:
    network = opened.network
    if network is None or not opened.card.get("classes"):
        raise CheckpointError(
            f"{opened.folder}: expected a segmentation network, with decoder and head; train one with geo3d finetune "
            "task=segment"
        )
    return network


def _category(opened: Checkpoint, category: str | None) -> int | None:
    """The number of the category that the network needs; None if it needs none."""
    categories = opened.card.get("categories")
    if categories is None:
        if category is not None:
            raise ConfigError(f"category={category}: the network has no categories; leave it out")
        return None
    if category not in categories:
        given = "" if category is None else f"found {category}; "
        hint = did_you_mean(category or "", categories)
        raise ConfigError(f"category: the network labels the parts of one class of objects; {given}{hint}")
    return int(categories.index(category))


def _write(out: Path, cloud: Any, label: Tensor, probability: Tensor, names: list[str]) -> None:
    if out.suffix.lower() == ".ply":
        write_cloud(out, with_(cloud, point_y=label))
        return
    if out.suffix.lower() == ".txt":
        with replacing(out) as draft:
            draft.write_text("".join(f"{number}\n" for number in torch.tensor(NUMBERS)[label].tolist()))
        return
    with replacing(out) as draft, draft.open("wb") as file:
        np.savez(file, label=label.numpy(), probability=probability.numpy(), classes=np.array(names))


def labels_in(arrays: dict[str, np.ndarray], path: str | Path) -> np.ndarray:
    """(N,) int64 labels of the points in a file's arrays.

    Raises:
        CloudError: If there are none.
    """
    names = ("label", "point_y", "labels", "segment", "semantic")
    labels = next((arrays[name] for name in names if name in arrays), None)
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise CloudError(f"{path}: expected whole numbers (N,) under one of {', '.join(names)}; found {sorted(arrays)}")
    return labels.astype(np.int64)
