"""Segmentation: a class for each point, by fine-tuning an encoder or training it from scratch."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Batch, Data

from geo3d.checks import Length, OneOf, Range, Share, Size, checked
from geo3d.cloud import Features, layout_of
from geo3d.data.prepared import random_pose
from geo3d.data.targets import Classes
from geo3d.decoders import FeaturePropagation, GlobalConcat
from geo3d.decoders.build import decoder_for
from geo3d.errors import CloudError, ConfigError
from geo3d.heads import PointClassifier
from geo3d.invariance.views import Views
from geo3d.metrics import class_iou, confusion, mean_iou, part_iou
from geo3d.network import point_logits
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.dense import Division, point_probabilities
from geo3d.tasks.lovasz import lovasz_softmax
from geo3d.tasks.supervised import Supervised


class Segment(Supervised):
    """A classifier of the points, behind a decoder.

    If the data set says which labels occur in which class of clouds (parts of objects), the decoder is told the class
    of each cloud if it has ``categories``, and else the head. Parts are scored object by object.

    Args:
        encoder: Any encoder that keeps all points.
        target: The classes of the points.
        views: Makes the one augmented view of a training batch.
        decoder: A decoder, or a class of ``geo3d.decoders``. By default the published one: ``FeaturePropagation`` for
            an encoder with levels, else ``GlobalConcat``.
        hidden: Sizes of the head's hidden layers; by default the published ones, (128,) behind ``FeaturePropagation``
            and else (512, 256).
        dropout: Dropout after the last hidden layer.
        label_smoothing: Label smoothing of the cross-entropy.
        class_weights: Weight classes by (largest frequency / own frequency) ** (1 / 3).
        lovasz: Weight of the Lovász-softmax loss, which is added to the cross-entropy.
        protocol: For parts. ``restricted``: the prediction is the best part of the cloud's class, as most papers do;
            ``all``: the best of all parts.
        votes: How often each test cloud is divided into subsets; their probabilities are averaged.
        training: See :class:`geo3d.tasks.supervised.Supervised`.
    """

    learns = "point_y"
    on_points = True

    @checked
    def __init__(
        self,
        encoder: Any,
        target: Classes,
        views: Views,
        *,
        decoder: nn.Module | Callable[..., nn.Module] | None = None,
        hidden: Annotated[Sequence[Size], Length(0, 16)] | None = None,
        dropout: Share = 0.5,
        label_smoothing: Share = 0.0,
        class_weights: bool = False,
        lovasz: Annotated[float, Range(0, 1000)] = 0.0,
        protocol: Annotated[str, OneOf("restricted", "all")] = "restricted",
        votes: Annotated[int, Range(1, 1000)] = 1,
        **training: Any,
    ) -> None:
        super().__init__(encoder, views, **training)
        if len(target.names) < 2:
            raise ConfigError(f"segmentation needs at least 2 classes; the data set has {len(target.names)}")
        self.names, self.groups = target.names, target.groups
        self.ignore = -1 if target.ignore is None else target.ignore
        self.label_smoothing, self.lovasz, self.protocol, self.votes = label_smoothing, lovasz, protocol, votes
        self.class_weights = class_weights
        self.register_buffer("weights", torch.ones(len(target.names)))
        groups = len(target.groups) if target.groups else 0
        make = published(encoder, groups) if decoder is None else decoder
        self.decoder = make if isinstance(make, nn.Module) else decoder_for(encoder, make)
        if hidden is None:
            hidden = (128,) if isinstance(self.decoder, FeaturePropagation) else (512, 256)
        dropouts = [0.0] * (len(hidden) - 1) + [dropout] if hidden else []
        told = getattr(self.decoder, "categories", 0)
        if told and told != groups:
            raise ConfigError(
                f"decoder: expected one with the categories of the data set, {groups}, or none (0); found {told}; give "
                f"decoder=feature_propagation, with decoder.categories={groups}"
            )
        self.head = PointClassifier(
            self.decoder.out_channels, len(target.names), tuple(hidden), dropout=dropouts, output_bias=True,
            categories=0 if told else groups,
        )  # fmt: skip

    def predict(self, features: Features, batch: Batch) -> Tensor:
        """(M, classes) logits."""
        if len(features.point) != len(batch.pos):
            raise ConfigError("the encoder leaves points out; segmentation needs one that keeps them all")
        return point_logits(self.decoder, self.head, features, batch.get("y"), layout_of(batch))

    def loss(self, prediction: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The cross-entropy over the labelled points, with the Lovász loss if asked for, and the accuracy."""
        labelled = batch.point_y != self.ignore
        logits, labels = prediction[labelled].float(), batch.point_y[labelled]
        if not len(labels):  # of this batch no point is labelled
            return prediction.float().sum() * 0.0, {}
        loss = functional.cross_entropy(logits, labels, self.weights, label_smoothing=self.label_smoothing)
        if self.lovasz:
            loss = loss + self.lovasz * lovasz_softmax(logits.softmax(1), labels)
        return loss, {"train_accuracy": (logits.detach().argmax(1) == labels).float().mean()}

    def check(self, data: DataModule) -> None:
        """Check the labels of the training and the test split, and count the classes if they are to be weighted.

        A data set that has kept which labels occur, as ``point_labels``, need not be read for the check alone.

        Raises:
            CloudError: If a label is outside of the classes, or no training point is labelled.
        """
        counts = torch.zeros(len(self.names))
        kept: dict[int, int] | None = getattr(data.dataset("train"), "point_labels", None)
        if kept is not None and not self.class_weights:
            counts += self._counted(Data(point_y=torch.tensor(list(kept))), "the train split")
        else:
            clouds = data.prepared("train", pool=True)  # with the labels that training may see, and no others
            for index in data.training.tolist():
                counts += self._counted(clouds[index], data.source("train", index))
        if not counts.any():
            raise CloudError("no point of the training clouds is labelled; expected point_y with classes from 0 on")
        if len(data.dataset("test")):
            self._counted(data.cloud("test", 0), data.source("test", 0))
        if self.class_weights:
            self.weights = (counts.max() / counts.clamp(min=1)) ** (1 / 3)

    def _counted(self, cloud: Data, source: str) -> Tensor:
        """(classes,) how many points of a cloud have each label."""
        labels = cloud.get("point_y")
        if labels is None:
            raise CloudError(f"{source}: has no point_y, the label of each point; segmentation needs it")
        known = labels[labels != self.ignore]
        if len(known) and not 0 <= int(known.min()) <= int(known.max()) < len(self.names):
            raise CloudError(
                f"{source}: expected point labels from 0 to {len(self.names) - 1}, or {self.ignore} for none; found "
                f"{int(known.min())} to {int(known.max())}"
            )
        return torch.bincount(known, minlength=len(self.names)).float()

    def described(self, data: DataModule) -> dict[str, Any]:
        """The names of the classes; for parts also those of the objects' classes, and which parts each may have."""
        of_parts = {} if self.groups is None else {"categories": data.classes, "groups": [*map(list, self.groups)]}
        return {"classes": list(self.names), **of_parts}

    @torch.no_grad()
    def score(self, data: DataModule) -> dict[str, Any]:
        """IoU and accuracy over all points of the test clouds; for parts also the two means of the objects' IoU.

        Raises:
            CloudError: If no point of the test clouds is labelled.
        """
        self.eval()
        counts = torch.zeros(len(self.names), len(self.names), dtype=torch.long)
        objects: list[tuple[int, float]] = []
        division = Division(data.num_points, self.votes, data.block)
        for index in range(len(data.dataset("test"))):
            cloud = data.cloud("test", index)
            probabilities = point_probabilities(
                self, cloud, data.source("test", index), division, normalize=data.normalize,
                pose=random_pose(data.rotation, (data.seed, "pose", "test", index)),
                key=(data.seed, "label", index), device=self.device,
            )  # fmt: skip
            predicted = probabilities.argmax(1)
            if self.groups is not None:
                category = int(cloud.y)
                if self.protocol == "restricted":
                    parts = torch.tensor(self.groups[category])
                    predicted = parts[probabilities[:, parts].argmax(1)]
                objects.append((category, float(part_iou(predicted, cloud.point_y, self.groups[category]))))
            counts += confusion(predicted, cloud.point_y, len(self.names))
        if not counts.any():
            raise CloudError("no point of the test clouds is labelled; the encoder is saved, but it cannot be scored")
        return self._metrics(counts, objects)

    def _metrics(self, counts: Tensor, objects: Sequence[tuple[int, float]]) -> dict[str, Any]:
        ious = dict(zip(self.names, class_iou(counts).tolist(), strict=True))
        metrics: dict[str, Any] = {
            "miou": float(mean_iou(counts)),
            "class_iou": {name: None if iou != iou else iou for name, iou in ious.items()},
            "accuracy": float(counts.diagonal().sum() / counts.sum()),
            "points": "all",
            "count": int(counts.sum()),
            "confusion": counts.tolist(),
        }
        if objects:
            of_class = [[iou for category, iou in objects if category == c] for c in sorted({c for c, _ in objects})]
            metrics["instance_miou"] = sum(iou for _, iou in objects) / len(objects)
            metrics["class_miou"] = sum(sum(each) / len(each) for each in of_class) / len(of_class)
            metrics["protocol"] = self.protocol
        return metrics


def published(encoder: Any, categories: int = 0) -> Callable[..., nn.Module]:
    """The decoder of the published segmentation network that has such an encoder.

    Args:
        encoder: The encoder.
        categories: For a network of parts, the number of classes of objects.
    """
    levels = len(getattr(encoder, "level_channels", ()))
    if levels < 2:
        return GlobalConcat

    def make(level_channels: Sequence[int], cloud_channels: int) -> nn.Module:
        multi_scale_parts = categories and getattr(encoder, "scales", "") == "msg"
        channels = [*[(256, 256)] * (levels - 2), (256, 128), (128, 128)] if multi_scale_parts else None
        return FeaturePropagation(
            level_channels, cloud_channels, channels, categories=categories, positions=categories > 0
        )

    return make
