"""Classification of clouds: fine-tuning an encoder, or training it from scratch, with labels."""

from collections.abc import Sequence
from typing import Annotated, Any

from torch import Tensor
from torch.nn import functional
from torch_geometric.data import Batch

from geo3d.checks import Length, Share, Size, checked
from geo3d.cloud import Features
from geo3d.data.targets import Classes
from geo3d.errors import ConfigError
from geo3d.heads import Classifier
from geo3d.invariance.views import Views
from geo3d.metrics import accuracy, class_accuracy
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.supervised import Supervised


class Classify(Supervised):
    """A classifier over the cloud features of an encoder.

    Args:
        encoder: Any encoder.
        target: The classes.
        views: Makes the one augmented view of a training batch.
        hidden: Sizes of the head's hidden layers.
        dropout: Dropout in the head.
        label_smoothing: Label smoothing of the cross-entropy.
        training: See :class:`geo3d.tasks.supervised.Supervised`.
    """

    learns = "y"

    @checked
    def __init__(
        self,
        encoder: Any,
        target: Classes,
        views: Views,
        *,
        hidden: Annotated[Sequence[Size], Length(0, 16)] = (512, 256),
        dropout: Share = 0.5,
        label_smoothing: Share = 0.2,
        **training: Any,
    ) -> None:
        super().__init__(encoder, views, **training)
        if len(target.names) < 2:
            raise ConfigError(f"classification needs at least 2 classes; the data set has {len(target.names)}")
        self.names, self.label_smoothing = target.names, label_smoothing
        self.head = Classifier(encoder.cloud_channels, len(target.names), hidden=tuple(hidden), dropout=dropout)

    def predict(self, features: Features, batch: Batch) -> Tensor:
        """(B, classes) logits."""
        return self.head(features.cloud)

    def loss(self, prediction: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The cross-entropy, and the accuracy on the training batch."""
        loss = functional.cross_entropy(prediction.float(), batch.y, label_smoothing=self.label_smoothing)
        return loss, {"train_accuracy": (prediction.detach().argmax(1) == batch.y).float().mean()}

    def score(self, data: DataModule) -> dict[str, float]:
        """Accuracy over clouds, mean accuracy over classes, and the number of clouds."""
        labels = data.labels("test")
        predicted = self.predictions(data, "test").argmax(1)
        return {
            "accuracy": float(accuracy(predicted, labels)),
            "class_accuracy": float(class_accuracy(predicted, labels, len(self.names))),
            "clouds": len(labels),
        }

    def check(self, data: DataModule) -> None:
        """Check before training that the test split has labels, and no class that the training split lacks."""
        data.labels("test")
