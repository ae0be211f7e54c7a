"""Figures of one encoder on points: a linear probe, and whether it tells objects apart."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d.checkpoint import Checkpoint
from geo3d.data.prepared import random_pose
from geo3d.data.targets import Classes
from geo3d.decoders import Upcast
from geo3d.decoders.build import decoder_for
from geo3d.errors import CloudError
from geo3d.metrics import confusion, mean_iou
from geo3d.network import PointRows
from geo3d.nn.keywords import keywords_of
from geo3d.probes.objects import mean_areas, object_auc
from geo3d.probes.points import LinearProbe, labelled_rows
from geo3d.seeds import seeded
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.dense import Division, point_probabilities

POINTS = 256
"""Points of each training cloud that the linear probe is fitted to."""


def point_rows(opened: Checkpoint) -> PointRows:
    """The encoder of a checkpoint with its decoder; features of all levels, interpolated, if it has none."""
    decoder = opened.decoder if opened.decoder is not None else decoder_for(opened.encoder, Upcast)
    return PointRows(opened.encoder, decoder).eval()


def fresh_rows(opened: Checkpoint, encoder: nn.Module, seed: int) -> PointRows:
    """An untrained encoder with an untrained decoder of the kind that the checkpoint has."""
    decoder = point_rows(opened).decoder
    with seeded(seed, "decoder"):
        return PointRows(encoder, type(decoder)(**deepcopy(keywords_of(decoder))))


@torch.no_grad()
def point_figures(rows: PointRows, data: DataModule, seed: int, device: str) -> dict[str, float]:
    """MIoU and accuracy of a linear probe over all points of the test clouds, and areas of telling objects apart.

    The areas (``geo3d.probes.objects``) are there if the clouds have the field ``instance`` and objects that touch.

    Raises:
        CloudError: If the points have no classes.
    """
    target = data.targets.get("point_y")
    if not isinstance(target, Classes):
        raise CloudError("a probe of points needs the target point_y, a class for each point; the data has none")
    rows.eval().to(device)
    ignore = -1 if target.ignore is None else target.ignore
    train = labelled_rows(rows, data.loader("train", batch_size=8), ignore, POINTS, (seed, "probe"), device)
    probe = LinearProbe(train, len(target.names))
    counts = torch.zeros(len(target.names), len(target.names), dtype=torch.long)
    for index in range(len(data.dataset("test"))):
        cloud = data.cloud("test", index)
        probabilities = point_probabilities(
            lambda batch: probe.logits(rows(batch)), cloud, data.source("test", index),
            Division(data.num_points, block=data.block), normalize=data.normalize,
            pose=random_pose(data.rotation, (data.seed, "pose", "test", index)), key=(seed, "probe", index),
            device=device,
        )  # fmt: skip
        counts += confusion(probabilities.argmax(1), cloud.point_y, len(target.names))
    figures = {"linear mIoU": float(mean_iou(counts)), "linear accuracy": float(counts.diagonal().sum() / counts.sum())}
    areas = mean_areas([each for batch in data.loader("test", batch_size=8) for each in _areas(rows, batch, device)])
    return figures if areas is None else figures | {"objects AUC": areas[0], "objects AUC of nearness": areas[1]}


def _areas(rows: PointRows, batch: Batch, device: str) -> list[tuple[float, float] | None]:
    instance = batch.get("instance")
    if instance is None:
        return []
    x: Tensor = rows(batch.to(device)).cpu()
    ends = batch.ptr.tolist()
    pos, instance = batch.pos.cpu(), instance.cpu()
    return [object_auc(x[a:b], pos[a:b], instance[a:b]) for a, b in zip(ends[:-1], ends[1:], strict=True)]
