"""Clouds as encoders see them: a fixed subset of the points, at a common scale, in a fixed pose."""

from typing import Annotated, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.checks import OneOf
from geo3d.cloud import check_cloud, check_fields, fields, with_
from geo3d.data.few_labels import few_labels
from geo3d.errors import CloudError
from geo3d.geometry.frame import placed, rescaled, turned
from geo3d.geometry.normalize import Normalize, center_and_scale, own_axes
from geo3d.geometry.rotation import random_rotations, rotation_about_z
from geo3d.seeds import generator

Pose = Annotated[str, OneOf("aligned", "z", "so3")]


def random_pose(rotation: str, key: tuple[int | str, ...]) -> Tensor | None:
    """(3, 3) random rotation: about the up axis for ``z``, any for ``so3``; None for ``aligned``. ``key`` seeds it."""
    if rotation == "aligned":
        return None
    draw = generator(*key)
    if rotation == "z":
        return rotation_about_z(torch.rand(1, generator=draw) * 2 * torch.pi)[0]
    return random_rotations(1, draw)[0]


def prepare(
    cloud: Data,
    source: str,
    num_points: int | None,
    normalize: Normalize,
    points: torch.Generator,
    pose: Tensor | None,
    keep: Tensor | None = None,
) -> Data:
    """The cloud as an encoder sees it, in float32; its ``frame`` maps it back to the coordinates that it had.

    Args:
        cloud: One cloud; it is not changed.
        source: Its name in error messages.
        num_points: Larger clouds are reduced to a random subset of this size; None keeps all points.
        normalize: See :data:`geo3d.geometry.normalize.Normalize`.
        points: The generator that draws the subset.
        pose: (3, 3) rotation to apply last, for ``oriented_box`` first; None for none.
        keep: Indices of points that the subset must contain; None for none.

    Raises:
        CloudError: If the cloud is empty or not finite, has several points that all lie in one place, or a field of
            another shape.
    """
    check_cloud(cloud.pos, source)
    check_fields(cloud, source)
    total = cloud.pos.shape[0]
    if num_points is not None and total > num_points:
        chosen = torch.randperm(total, generator=points)
        if keep is not None:  # first, in random order like the others
            chosen = torch.cat([chosen[torch.isin(chosen, keep)], chosen[~torch.isin(chosen, keep)]])
        chosen = chosen[:num_points]
        cloud = with_(cloud, **{name: value[chosen] for name, field, value in fields(cloud) if field.per == "point"})
    if total > 1 and bool((cloud.pos == cloud.pos[0]).all()):
        raise CloudError(f"{source}: all points lie in one place; remove the cloud")
    if normalize == "oriented_box":  # after the pose, which it undoes
        cloud, pose = cloud if pose is None else turned(cloud, pose), None
        axes = own_axes(cloud.pos).to(cloud.pos.dtype)
        cloud = placed(cloud, axes, *center_and_scale(cloud.pos @ axes.T, normalize))
    elif normalize != "none":
        cloud = rescaled(cloud, *center_and_scale(cloud.pos, normalize))
    cloud = cloud if pose is None else turned(cloud, pose)
    wide = {name: value.float() for name, _, value in fields(cloud) if value.dtype == torch.float64 and name != "frame"}
    return with_(cloud, **wide) if wide else cloud


class PreparedClouds(Dataset):
    """The prepared clouds of one split. Random draws are keyed by (seed, split, index), not by order or worker.

    Args:
        clouds: The data set.
        split: Name of the split, part of the key.
        num_points: See :func:`prepare`.
        rotation: ``aligned``, ``z`` or ``so3``, see :func:`random_pose`.
        normalize: See :func:`prepare`.
        seed: Part of the key.
        label_points: Keep the labels of this many points of each cloud, drawn at random, and set those of all others to
            ``ignore``; the kept points are never left out of the subset. None keeps all labels.
        ignore: The label of points without a label.
    """

    def __init__(
        self,
        clouds: Any,
        split: str,
        num_points: int | None,
        rotation: str,
        normalize: Normalize,
        seed: int,
        label_points: int | None = None,
        ignore: int = -1,
    ) -> None:
        self.clouds, self.split, self.seed, self.label_points, self.ignore = clouds, split, seed, label_points, ignore
        self.num_points, self.rotation, self.normalize = num_points, rotation, normalize
        self.cached: bool = getattr(clouds, "cached", True)

    def __len__(self) -> int:
        return len(self.clouds)

    def __getitem__(self, index: int) -> Data:
        pose = random_pose(self.rotation, (self.seed, "pose", self.split, index))
        draw = generator(self.seed, "points", self.split, index)
        cloud, source = self.clouds[index], self.source(index)
        self._check_label(cloud, index, source)
        cloud, keep = self._few_labels(cloud, index)
        return prepare(cloud, source, self.num_points, self.normalize, draw, pose, keep)

    def _few_labels(self, cloud: Data, index: int) -> tuple[Data, Tensor | None]:
        """The cloud with few labels, and the indices of these points."""
        if self.label_points is None:
            return cloud, None
        draw = generator(self.seed, "label points", self.split, index)
        return few_labels(cloud, self.label_points, self.ignore, draw)

    def _check_label(self, cloud: Data, index: int, source: str) -> None:
        """Check that the cloud and the data set's ``labels`` agree."""
        labels, y = getattr(getattr(self.clouds, "dataset", self.clouds), "labels", None), cloud.get("y")
        if labels is not None and y is not None and int(y) != int(labels[index]):
            raise CloudError(f"{source}: y is {int(y)}, but labels[{index}] is {int(labels[index])}; make them equal")

    def source(self, index: int) -> str:
        """The name of the cloud in error messages: its file, if the data set knows it."""
        dataset = getattr(self.clouds, "dataset", self.clouds)
        known = getattr(dataset, "source", None)
        return known(index) if known is not None else f"cloud {index} of the {self.split} split"
