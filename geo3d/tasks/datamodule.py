"""The one DataModule: which clouds, how many points, in which pose, and which of them count as labelled."""

import copy
import hashlib
import json
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch_geometric.data import Data

from geo3d.checks import OneOf, Range, Seed, checked
from geo3d.cloud import check_cloud, collate, fields, with_
from geo3d.distributed import world_size
from geo3d.errors import CloudError, SplitError
from geo3d.geometry.frame import rescaled, turned
from geo3d.geometry.normalize import unit_sphere
from geo3d.geometry.rotation import random_rotations, rotation_about_z
from geo3d.seeds import generator
from geo3d.tasks.shuffle import KeyedShuffle

POOL = 4  # views draw their points from a pool this many times as large as a view
CACHE_BYTES = 1 << 30
Pose = Annotated[str, OneOf("aligned", "z", "so3")]


def random_pose(rotation: str, key: tuple[int | str, ...]) -> Tensor | None:
    """(3, 3): the rotation in which a cloud arrives under ``aligned`` (None), ``z`` or ``so3``."""
    if rotation == "aligned":
        return None
    draw = generator(*key)
    if rotation == "z":
        return rotation_about_z(torch.rand(1, generator=draw) * 2 * torch.pi)[0]
    return random_rotations(1, draw)[0]


class Delivered(Dataset):
    """Clouds of a data set with a fixed subset of points, normalised, in a fixed pose; each made once and kept.

    Everything drawn is keyed by (seed, split, index), so neither order nor worker count changes a cloud.
    """

    def __init__(
        self, dataset: Any, split: str, num_points: int | None, rotation: str, normalize: bool, seed: int
    ) -> None:
        self.dataset, self.split, self.seed = dataset, split, seed
        self.num_points, self.rotation, self.normalize = num_points, rotation, normalize
        self.kept: dict[int, Data] = {}
        self.room = CACHE_BYTES

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Data:
        if index in self.kept:
            return self.kept[index]
        cloud = self.deliver(index)
        size = sum(value.nbytes for value in cloud.to_dict().values() if isinstance(value, Tensor))
        if size <= self.room:
            self.room -= size
            self.kept[index] = cloud
        return cloud

    def source(self, index: int) -> str:
        """What errors call the cloud: its file, where the data set knows it."""
        known = getattr(self.dataset, "source", None)
        return known(index) if known is not None else f"cloud {index} of the {self.split} split"

    def deliver(self, index: int) -> Data:
        """The cloud made anew from the data set."""
        cloud = self.dataset[index].clone()
        source = self.source(index)
        check_cloud(cloud.pos, source)
        total = cloud.pos.shape[0]
        if self.num_points is not None and total > self.num_points:
            draw = generator(self.seed, "points", self.split, index)
            chosen = torch.randperm(total, generator=draw)[: self.num_points]
            cloud = with_(
                cloud, **{name: value[chosen] for name, field, value in fields(cloud) if field.per == "point"}
            )
        if total > 1 and bool((cloud.pos == cloud.pos[0]).all()):
            raise CloudError(f"{source}: all points lie in one place; remove the cloud")
        if self.normalize:
            cloud = rescaled(cloud, *unit_sphere(cloud.pos))
        pose = random_pose(self.rotation, (self.seed, "pose", self.split, index))
        return cloud if pose is None else turned(cloud, pose)


class DataModule(pl.LightningDataModule):
    """Batches for pretraining, supervised training and evaluation, from any geo3d data set.

    Args:
        dataset_class: Called with ``split="train"`` or ``"test"`` and the remaining keywords.
        batch_size: Clouds in a batch of one process.
        num_points: Points of a cloud as the encoder sees it (a fixed random subset); None for all.
        rotation: The pose in which clouds arrive: ``aligned`` as stored, ``z`` (random about the up axis) or ``so3``.
        label_fraction: Share of each class of the training split whose labels may be used in supervised training.
        holdout: Share of the training split kept out of pretraining for the online kNN monitor.
        normalize: Centre every cloud and scale it into the unit sphere.
        num_workers: Worker processes that load clouds; 0 is right when they fit in memory.
        seed: Key of every draw.
        dataset_keywords: For ``dataset_class``.

    Raises:
        ConfigError: If an argument is out of its range.
    """

    @checked
    def __init__(
        self,
        dataset_class: Callable[..., Any],
        *,
        batch_size: Annotated[int, Range(1, 65536)] = 64,
        num_points: Annotated[int, Range(2, 10_000_000)] | None = 1024,
        rotation: Pose = "aligned",
        label_fraction: Annotated[float, Range(0, 1, above=True)] = 1.0,
        holdout: Annotated[float, Range(0, 0.99)] = 0.1,
        normalize: bool = True,
        num_workers: Annotated[int, Range(0, 256)] = 0,
        seed: Seed = 0,
        **dataset_keywords: Any,
    ) -> None:
        super().__init__()
        self.dataset_class, self.dataset_keywords = dataset_class, dataset_keywords
        self.batch_size, self.num_points, self.rotation = batch_size, num_points, rotation
        self.label_fraction, self.holdout, self.normalize = label_fraction, holdout, normalize
        self.num_workers, self.seed = num_workers, seed
        self.supervised = False
        self._sets: dict[str, Any] = {}
        self._delivered: dict[tuple[str, bool], Delivered] = {}

    def dataset(self, split: str) -> Any:
        """The data set of one split, made when first asked for."""
        if split not in self._sets:
            self._sets[split] = self.dataset_class(split=split, **self.dataset_keywords)
            if len(self._sets[split]) == 0:
                raise CloudError(f"the {split} split of {self.dataset_class.__name__} holds no cloud")
        return self._sets[split]

    def has(self, split: str) -> bool:
        """Whether the data set has such a split; a folder of one's own may have none for testing."""
        try:
            self.dataset(split)
        except SplitError:
            return False
        return True

    def reseeded(self, seed: int) -> "DataModule":
        """The same clouds under other draws: subsets of points, poses, labelled shares."""
        other = copy.copy(self)
        other.seed, other._delivered = seed, {}
        return other

    def of_points(self, num_points: int | None) -> "DataModule":
        """The same clouds with fewer points: of larger clouds the first of those drawn here."""
        other = copy.copy(self)
        other.num_points, other._delivered = num_points, {}
        return other

    def labels(self, split: str) -> Tensor:
        """(n,) int64 labels of a split.

        Raises:
            CloudError: If the data set has none.
        """
        labels = self.dataset(split).labels
        if labels is None:
            raise CloudError(f"{self.dataset_class.__name__} has no labels; put the files in one folder a class")
        return labels

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return list(self.dataset("train").classes)

    def delivered(self, split: str, pool: bool = False) -> Delivered:
        """The clouds of a split as they are delivered; with ``pool`` larger than a view, for views to draw from."""
        if (split, pool) not in self._delivered:
            count = self.num_points * POOL if pool and self.num_points is not None else self.num_points
            dataset = self.dataset(split)
            if count is not None and not pool and dataset[0].pos.shape[0] < count:
                found = dataset[0].pos.shape[0]
                warnings.warn(
                    f"data.num_points={count}, but the first cloud has only {found} points; all are used", stacklevel=2
                )
            self._delivered[split, pool] = Delivered(dataset, split, count, self.rotation, self.normalize, self.seed)
        return self._delivered[split, pool]

    def stratified(self, share: float, purpose: str, least: int = 1) -> Tensor:
        """(m,) training indices, sorted: ``share`` of each class, ``least`` at least; without labels of the whole."""
        dataset = self.dataset("train")
        labels = dataset.labels if dataset.labels is not None else torch.zeros(len(dataset), dtype=torch.long)
        draw = generator(self.seed, purpose)
        parts = []
        for label in labels.unique().tolist():
            members = (labels == label).nonzero()[:, 0]
            count = max(least, round(share * len(members)))
            parts.append(members[torch.randperm(len(members), generator=draw)[:count]])
        return torch.cat(parts).sort().values

    def calibration(self, clouds: int, batch_size: int = 32) -> DataLoader:
        """Batches of about so many training clouds of all classes, in random order, as evaluation shows them.

        For statistics that are taken batch by batch. Data sets are often sorted by class, and batches of one class vary
        less than the data do.
        """
        indices = self.stratified(min(1.0, clouds / len(self.dataset("train"))), "calibration")
        order = torch.randperm(len(indices), generator=generator(self.seed, "calibration order"))
        return self.loader("train", indices[order], batch_size)

    @property
    def heldout(self) -> Tensor:
        """(m,) training indices that pretraining never sees; empty without labels."""
        if self.holdout == 0 or self.dataset("train").labels is None:
            return torch.empty(0, dtype=torch.long)
        return self.stratified(self.holdout, "holdout", least=0)

    @property
    def training(self) -> Tensor:
        """(m,) indices to train on: the labelled share when supervised, else all but the held-out slice."""
        if self.supervised:
            return self.stratified(self.label_fraction, "labels")
        everything = torch.arange(len(self.dataset("train")))
        return everything[~torch.isin(everything, self.heldout)]

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches of pools of points."""
        indices = self.training
        batch_size = min(self.batch_size, len(indices) // world_size())
        if batch_size < 2:
            raise CloudError(f"a batch needs 2 clouds; there are {len(indices)} and data.batch_size={self.batch_size}")
        sampler = KeyedShuffle(indices, batch_size, self.seed)
        return self._loader(self.delivered("train", pool=True), batch_size, sampler=sampler, drop_last=True)

    def loader(self, split: str, indices: Tensor | None = None, batch_size: int = 32) -> DataLoader:
        """Batches of a split in order, every cloud once, as the encoder sees them in evaluation."""
        delivered = self.delivered(split)
        order = range(len(delivered)) if indices is None else indices.tolist()
        return self._loader(delivered, batch_size, sampler=order)

    def _loader(self, delivered: Delivered, batch_size: int, **keywords: Any) -> DataLoader:
        workers = self.num_workers
        return DataLoader(
            delivered, batch_size, collate_fn=collate, num_workers=workers, persistent_workers=workers > 0, **keywords
        )

    def manifest(self) -> dict[str, Any]:
        """Which samples training sees, and how they are delivered (JSON-able)."""
        seen = self.training
        return {
            "data": self.dataset("train").manifest(),
            "trained_on": {"count": len(seen), "sha256": hashlib.sha256(seen.numpy().tobytes()).hexdigest()},
            "delivered": {
                "num_points": self.num_points,
                "rotation": self.rotation,
                "normalize": self.normalize,
                "label_fraction": self.label_fraction if self.supervised else None,
                "holdout": None if self.supervised else self.holdout,
                "seed": self.seed,
            },
        }

    def evaluation_manifest(self) -> dict[str, Any]:
        """What a probe sees: all of train to fit on, all of test to score on (JSON-able)."""
        manifest = self.manifest()
        del manifest["trained_on"]
        return manifest | {"test": self.dataset("test").manifest()}

    def manifest_hash(self) -> str:
        """A short name for what :meth:`manifest` says."""
        return hashlib.sha256(json.dumps(self.manifest(), sort_keys=True).encode()).hexdigest()[:16]
