"""Batches of a data set for one phase: pretraining, or supervised training on one of its targets."""

import copy
import hashlib
import inspect
import json
import warnings
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geo3d.checks import Range, Seed, checked
from geo3d.cloud import collate
from geo3d.data.blocks import Blocks, BlockSize
from geo3d.data.cache import Cached, Room
from geo3d.data.prepared import Pose, PreparedClouds
from geo3d.data.sampler import KeyedShuffle
from geo3d.data.targets import Classes, Target, labels_of, target_named, targets_of
from geo3d.distributed import world_size
from geo3d.errors import CloudError, ConfigError, SplitError
from geo3d.geometry.normalize import Normalize
from geo3d.seeds import generator

POOL = 4  # views draw their points from a pool this many times as large as a view
Phase = Literal["pretrain", "supervised"]
STORED: dict[str, Any] = {"unit_sphere": True, "none": False}
"""How manifests store these values of ``normalize``, since geo3d 0.1.0."""


class DataModule(pl.LightningDataModule):
    """Batches for pretraining, supervised training and evaluation, from any geo3d data set.

    Args:
        dataset_class: Called with ``split="train"`` or ``"test"`` and the remaining keywords.
        batch_size: Clouds in a batch of one process.
        num_points: Points of a cloud as the encoder sees it (a fixed random subset); None for all.
        rotation: The pose in which clouds arrive: ``aligned`` as stored, ``z`` (random about the up axis) or ``so3``.
        label_fraction: Fraction of each class of the training split whose labels may be used in supervised training.
        scene_fraction: Fraction of the training clouds whose labels may be used in supervised training, whatever their
            class.
        label_points: How many points of each training cloud keep their label in supervised training, drawn at random;
            None for all. With ``block``, of each scene.
        block: Side of the blocks into which scenes are divided, in units of the data set; None for whole clouds. A
            block is then a cloud (:mod:`geo3d.data.blocks`), and ``scene_fraction`` counts scenes.
        holdout: Fraction of the training split kept out of pretraining for the online kNN monitor.
        normalize: The common place and scale of the clouds: ``unit_sphere``, ``box``, ``center`` (lengths stay) or
            ``none``.
        num_workers: Worker processes that load clouds; 0 is right when the clouds fit in memory.
        seed: Key of every draw.
        dataset_keywords: Keywords of ``dataset_class``.

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
        scene_fraction: Annotated[float, Range(0, 1, above=True)] = 1.0,
        label_points: Annotated[int, Range(1, 10_000_000)] | None = None,
        block: BlockSize | None = None,
        holdout: Annotated[float, Range(0, 0.99)] = 0.1,
        normalize: Normalize = "unit_sphere",
        num_workers: Annotated[int, Range(0, 256)] = 0,
        seed: Seed = 0,
        **dataset_keywords: Any,
    ) -> None:
        super().__init__()
        self.dataset_class, self.dataset_keywords = dataset_class, dataset_keywords
        self.batch_size, self.num_points, self.rotation = batch_size, num_points, rotation
        self.label_fraction, self.holdout, self.normalize = label_fraction, holdout, normalize
        self.scene_fraction, self.label_points, self.block = scene_fraction, label_points, block
        self.num_workers, self.seed = num_workers, seed
        self.phase: Phase = "pretrain"
        self.target: str | None = None
        self._room = Room()
        self._sets: dict[str, Cached] = {}
        self._prepared: dict[tuple[str, bool], Cached] = {}

    def of(self, phase: Phase, target: str | None = None) -> "DataModule":
        """A data module of the same clouds for a phase.

        Args:
            phase: ``pretrain`` leaves out the held-out slice and needs no labels; ``supervised`` takes the labelled
                fraction.
            target: The target to learn when ``supervised``, one of :attr:`targets`.

        Raises:
            ConfigError: If there is no such phase.
            CloudError: If the data set has no such target.
        """
        if phase not in get_args(Phase):
            raise ConfigError(f"phase must be {' or '.join(get_args(Phase))}; found {phase!r}")
        other = copy.copy(self)
        other.phase, other.target = phase, target
        if target is not None:
            target_named(self.dataset("train"), target)
        if self.label_points is not None:  # which labels are left depends on the phase
            other._prepared = {}
        return other

    @property
    def targets(self) -> dict[str, Target]:
        """What can be learned from the data set, by field."""
        return dict(targets_of(self.dataset("train")))

    def dataset(self, split: str) -> Any:
        """The data set of one split, created on first use; with ``block`` the blocks of "train", scenes of "test"."""
        return self._cached(split).dataset

    def _cached(self, split: str) -> Cached:
        if split not in self._sets:
            dataset = self.dataset_class(split=split, **self._options())
            if len(dataset) == 0:
                raise CloudError(f"the {split} split of {self.dataset_class.__name__} holds no cloud")
            self._check_classes(split, dataset)
            dataset = dataset if self.block is None or split == "test" else Blocks(dataset, self.block)
            self._sets[split] = Cached(dataset, self._room)
        return self._sets[split]

    def _options(self) -> dict[str, Any]:
        """The keywords of the data set; one that generates its clouds makes at least the points that encoders see."""
        points = inspect.signature(self.dataset_class).parameters.get("num_points")
        if self.num_points is None or points is None or not getattr(self.dataset_class, "generated", False):
            return self.dataset_keywords
        least = points.default if isinstance(points.default, int) else 0
        return self.dataset_keywords | {"num_points": max(least, self.num_points)}

    def _check_classes(self, split: str, dataset: Any) -> None:
        """Check that a split has the classes of the others in the same order."""
        here = list(getattr(dataset, "classes", None) or ())
        for other, cached in self._sets.items():
            there = list(getattr(cached.dataset, "classes", None) or ())
            if here and there and here != there:
                raise CloudError(
                    f"{self.dataset_class.__name__}: the classes of {split} are {', '.join(here[:8])}, but those of "
                    f"{other} are {', '.join(there[:8])}; give both the same names in the same order"
                )

    def has(self, split: str) -> bool:
        """Whether the data set has this split; your own folder may have no test split."""
        try:
            self.dataset(split)
        except SplitError:
            return False
        return True

    def reseeded(self, seed: int) -> "DataModule":
        """A data module of the same clouds with other random draws: subsets of points, poses, labelled clouds."""
        other = copy.copy(self)
        other.seed, other._prepared = seed, {}
        return other

    def of_points(self, num_points: int | None) -> "DataModule":
        """A data module of the same clouds with fewer points: the first of the points that this one draws."""
        other = copy.copy(self)
        other.num_points, other._prepared = num_points, {}
        return other

    def cloud(self, split: str, index: int) -> Any:
        """One cloud of a split as the data set gives it."""
        return self._cached(split)[index]

    def source(self, split: str, index: int) -> str:
        """The name of a cloud in error messages."""
        return self.prepared(split).dataset.source(index)

    def labels(self, split: str) -> Tensor:
        """(n,) int64 labels of a split.

        Raises:
            CloudError: If the data set has none.
        """
        target, labels = target_named(self.dataset(split), "y"), labels_of(self.dataset(split))
        assert labels is not None
        count = len(target.names)
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < count:
            raise CloudError(
                f"{self.dataset_class.__name__}: expected labels from 0 to {count - 1}, one for each class; found "
                f"{int(labels.min())} to {int(labels.max())} in {split}; leave clouds without a class out"
            )
        return labels

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return list(self.dataset("train").classes)

    def prepared(self, split: str, pool: bool = False) -> Cached:
        """The clouds of a split as encoders see them; with ``pool``, with more points, from which views draw theirs."""
        if (split, pool) not in self._prepared:
            self._prepared[split, pool] = Cached(self._preparing(split, pool), self._room)
        return self._prepared[split, pool]

    def _preparing(self, split: str, pool: bool) -> PreparedClouds:
        count = self.num_points * POOL if pool and self.num_points is not None else self.num_points
        clouds = self._cached(split)
        if self.block is not None and split == "test":
            clouds = Cached(Blocks(clouds.dataset, self.block), self._room)
        if count is not None and not pool and clouds[0].pos.shape[0] < count:
            size = clouds[0].pos.shape[0]
            warnings.warn(
                f"data.num_points={count}, but the first cloud has only {size} points; all are used", stacklevel=2
            )
        few = self.label_points if split == "train" and self.phase == "supervised" else None
        if few is not None and isinstance(clouds.dataset, Blocks):
            clouds = Cached(clouds.dataset.with_few_labels(few, self._ignored(), self.seed, "label points"), self._room)
        return PreparedClouds(clouds, split, count, self.rotation, self.normalize, self.seed, few, self._ignored())

    def _ignored(self) -> int:
        """The label of points without a label."""
        target = targets_of(self.dataset("train")).get("point_y")
        return -1 if not isinstance(target, Classes) or target.ignore is None else target.ignore

    def stratified(self, fraction: float, purpose: str, least: int = 1) -> Tensor:
        """(m,) sorted training indices: a fraction of each class, at least ``least``; without labels, of all clouds."""
        dataset = self.dataset("train")
        labels = labels_of(dataset)
        labels = torch.zeros(len(dataset), dtype=torch.long) if labels is None else labels
        draw = generator(self.seed, purpose)
        parts = []
        for label in labels.unique().tolist():
            members = (labels == label).nonzero()[:, 0]
            count = max(least, round(fraction * len(members)))
            parts.append(members[torch.randperm(len(members), generator=draw)[:count]])
        return torch.cat(parts).sort().values

    def calibration(self, clouds: int, batch_size: int = 32) -> DataLoader:
        """Batches of about ``clouds`` training clouds of all classes, in random order, prepared as for evaluation.

        For statistics that are computed batch by batch. Data sets are often sorted by class, and a batch of one class
        varies less than the data.
        """
        indices = self.stratified(min(1.0, clouds / len(self.dataset("train"))), "calibration")
        order = torch.randperm(len(indices), generator=generator(self.seed, "calibration order"))
        return self.loader("train", indices[order], batch_size)

    @property
    def heldout(self) -> Tensor:
        """(m,) training indices that pretraining never sees; empty without labels."""
        if self.holdout == 0 or labels_of(self.dataset("train")) is None:
            return torch.empty(0, dtype=torch.long)
        return self.stratified(self.holdout, "holdout", least=0)

    @property
    def training(self) -> Tensor:
        """(m,) indices to train on: the labelled fraction when supervised, else all but the held-out slice."""
        if self.phase == "supervised":
            chosen = self.stratified(self.label_fraction, "labels")
            return chosen[torch.isin(self._scene_of()[chosen], self._scenes())] if self.scene_fraction < 1 else chosen
        everything = torch.arange(len(self.dataset("train")))
        return everything[~torch.isin(everything, self.heldout)]

    def _scene_of(self) -> Tensor:
        """(n,) the scene that each training cloud is a block of; by default each cloud is a scene."""
        dataset = self.dataset("train")
        return torch.tensor(dataset.scene_of) if isinstance(dataset, Blocks) else torch.arange(len(dataset))

    def _scenes(self) -> Tensor:
        """The training scenes whose labels may be used."""
        number = int(self._scene_of().max()) + 1
        return torch.randperm(number, generator=generator(self.seed, "scenes"))[
            : max(1, round(self.scene_fraction * number))
        ]

    @property
    def training_batch(self) -> int:
        """Clouds in a training batch of one process: ``batch_size``, or all that there are."""
        return min(self.batch_size, len(self.training) // world_size())

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches of training clouds, as pools of points from which views draw theirs."""
        indices, batch_size = self.training, self.training_batch
        if batch_size < 2:
            raise CloudError(f"a batch needs 2 clouds; there are {len(indices)} and data.batch_size={self.batch_size}")
        sampler = KeyedShuffle(indices, batch_size, self.seed)
        return self._loader(self.prepared("train", pool=True), batch_size, sampler=sampler, drop_last=True)

    def loader(self, split: str, indices: Tensor | None = None, batch_size: int = 32) -> DataLoader:
        """Batches of a split in order, every cloud once, as the encoder sees them in evaluation."""
        prepared = self.prepared(split)
        order = range(len(prepared)) if indices is None else indices.tolist()
        return self._loader(prepared, batch_size, sampler=order)

    def _loader(self, prepared: Cached, batch_size: int, **keywords: Any) -> DataLoader:
        workers = self.num_workers
        return DataLoader(
            prepared, batch_size, collate_fn=collate, num_workers=workers, persistent_workers=workers > 0, **keywords
        )

    @property
    def convention(self) -> dict[str, Any]:
        """How clouds are prepared for the encoder, for the card of its checkpoint (JSON-able)."""
        known = {"up": "z", "num_points": self.num_points, "normalize": self.normalize}
        return known | ({} if self.block is None else {"block": self.block})

    def manifest(self) -> dict[str, Any]:
        """Which samples training sees, and how they are prepared (JSON-able)."""
        seen = self.training
        return {
            "data": _manifest(self.dataset("train")),
            "trained_on": {"count": len(seen), "sha256": hashlib.sha256(seen.numpy().tobytes()).hexdigest()},
            "delivered": {
                "num_points": self.num_points,
                "rotation": self.rotation,
                "normalize": STORED.get(self.normalize, self.normalize),
                "label_fraction": self.label_fraction if self.phase == "supervised" else None,
                **({"scene_fraction": self.scene_fraction} if self.scene_fraction < 1 else {}),
                **({"label_points": self.label_points} if self.label_points is not None else {}),
                "holdout": None if self.phase == "supervised" else self.holdout,
                "seed": self.seed,
            },
        }

    def evaluation_manifest(self) -> dict[str, Any]:
        """What a probe sees: all of train to fit on, all of test to score on (JSON-able)."""
        manifest = self.manifest()
        del manifest["trained_on"]
        return manifest | {"test": _manifest(self.dataset("test"))}

    def manifest_hash(self) -> str:
        """The first 16 hex digits of the SHA-256 of :meth:`manifest`."""
        return hashlib.sha256(json.dumps(self.manifest(), sort_keys=True).encode()).hexdigest()[:16]


def _manifest(dataset: Any) -> dict[str, Any]:
    """What a data set says of its content.

    Raises:
        CloudError: If it says nothing, or something that JSON does not have.
    """
    name = type(dataset).__name__
    if not hasattr(dataset, "manifest"):
        raise CloudError(f"{name}: has no manifest(); it must return what identifies the clouds, as JSON types")
    said = dataset.manifest()
    try:
        json.dumps(said)
    except (TypeError, ValueError) as error:
        raise CloudError(f"{name}.manifest(): expected JSON types; {error}") from None
    return said
