"""Classification of clouds: fine-tuning an encoder, or training it from scratch, with labels."""

from collections.abc import Sequence
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional
from torch_geometric.data import Batch

from geo3d.checks import Decay, Length, Range, Rate, Seed, Share, Size, checked
from geo3d.compress import added_loss
from geo3d.errors import ConfigError
from geo3d.heads import Classifier
from geo3d.invariance.views import Views
from geo3d.seeds import generator, seeded
from geo3d.tasks.regularize import encoded
from geo3d.tasks.schedule import MIDDLE, decayed, elapsed_share, set_learning_rates, warmup_cosine


class Classify(pl.LightningModule):
    """A classifier over the cloud features of an encoder.

    Args:
        encoder: Any encoder.
        num_classes: Number of classes.
        views: Makes the one augmented view of a training batch.
        hidden: Sizes of the head's hidden layers.
        dropout: In the head.
        label_smoothing: Of the cross-entropy.
        freeze: Train the head alone; the encoder stays as it is, statistics included.
        lr: Peak learning rate of the head.
        encoder_lr: Peak learning rate of the encoder; ``lr`` when None.
        weight_decay: On weight matrices only.
        warmup: Share of the run in which the learning rates rise.
        seed: Key of every draw.
    """

    @checked
    def __init__(
        self,
        encoder: Any,
        num_classes: Annotated[int, Range(1, 100_000)],
        views: Views,
        *,
        hidden: Annotated[Sequence[Size], Length(0, 16)] = (512, 256),
        dropout: Share = 0.5,
        label_smoothing: Share = 0.2,
        freeze: bool = False,
        lr: Rate = 1e-3,
        encoder_lr: Rate | None = None,
        weight_decay: Decay = 1e-4,
        warmup: Share = 0.05,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ConfigError(f"classification needs at least 2 classes; the data set has {num_classes}")
        self.encoder, self.views, self.frozen, self.seed = encoder, views, freeze, seed
        self.head = Classifier(encoder.cloud_channels, num_classes, hidden=tuple(hidden), dropout=dropout)
        self.label_smoothing, self.warmup = label_smoothing, warmup
        self.lr, self.encoder_lr, self.weight_decay = lr, lr if encoder_lr is None else encoder_lr, weight_decay
        if freeze:
            encoder.requires_grad_(False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW with one learning rate for the head and one for the encoder."""
        groups = decayed(self.head, self.weight_decay, self.lr)
        if not self.frozen:
            groups += decayed(self.encoder, self.weight_decay, self.encoder_lr)
        return torch.optim.AdamW(groups)

    def on_train_epoch_start(self) -> None:
        """A frozen encoder keeps its running statistics."""
        if self.frozen:
            self.encoder.eval()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """The learning rates follow the elapsed share of the run."""
        set_learning_rates(self.optimizers(), warmup_cosine(elapsed_share(self.trainer, MIDDLE), self.warmup))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The cross-entropy of one batch."""
        (view,) = self.views(batch, self.seed, "augment", self.global_step, self.global_rank)
        with torch.set_grad_enabled(not self.frozen):
            features, penalty = encoded(self.encoder, view.batch)
        cloud = features.cloud
        with seeded(self.seed, "dropout", self.global_step, self.global_rank):
            logits = self.head(cloud)
        loss = functional.cross_entropy(logits.float(), batch.y, label_smoothing=self.label_smoothing)
        draw = generator(self.seed, "settings", self.global_step)
        added = added_loss(self.encoder, view.batch, cloud, draw, self.head)
        for term in (added, None if self.frozen else penalty):
            loss = loss if term is None else loss + term
        accuracy = (logits.detach().argmax(1) == batch.y).float().mean()
        for name, value in {"loss": loss.detach(), "train_accuracy": accuracy}.items():
            self.log(name, value, prog_bar=True, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def forward(self, batch: Batch) -> Tensor:
        """(B, num_classes) logits."""
        return self.head(self.encoder(batch).cloud)
