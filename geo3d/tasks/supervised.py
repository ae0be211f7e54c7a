"""The base of all training with labels: optimiser, schedule, freezing, augmentation, logging."""

from functools import partial
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.checks import Decay, Rate, Seed, Share, checked
from geo3d.cloud import Features
from geo3d.compress import added_loss
from geo3d.errors import ConfigError
from geo3d.heads import Classifier
from geo3d.invariance.views import Views
from geo3d.seeds import generator, seeded
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.regularize import encoded
from geo3d.tasks.schedule import MIDDLE, decayed, elapsed_fraction, set_learning_rates, warmup_cosine


class Supervised(pl.LightningModule):
    """An encoder and a head, trained together on one target of a data set.

    A subclass names the target in ``learns`` and implements :meth:`predict`, :meth:`loss` and :meth:`score`. Its
    constructor takes ``(encoder, target, views, **training)`` and makes ``self.head``, of a class in ``geo3d.heads``,
    and ``self.decoder`` if the task works on points.

    Args:
        encoder: Any encoder.
        views: Makes the one augmented view of a training batch.
        freeze: Train only the head; the weights and running statistics of the encoder do not change.
        lr: Peak learning rate of the head.
        encoder_lr: Peak learning rate of the encoder; ``lr`` when None.
        weight_decay: On weight matrices only.
        warmup: Fraction of the run in which the learning rates rise.
        seed: Key of every draw.
    """

    learns: ClassVar[str] = "y"
    """The target, a field of the record."""
    on_points: ClassVar[bool] = False
    """Whether the head reads the rows of a decoder, one for each point."""
    head: Any
    decoder: Any
    """Makes the rows that a head on points reads, and is trained with it; None for none."""

    @checked
    def __init__(
        self,
        encoder: Any,
        views: Views,
        *,
        freeze: bool = False,
        lr: Rate = 1e-3,
        encoder_lr: Rate | None = None,
        weight_decay: Decay = 1e-4,
        warmup: Share = 0.05,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.encoder, self.views, self.frozen, self.seed = encoder, views, freeze, seed
        self.decoder = None
        self.warmup, self.weight_decay = warmup, weight_decay
        self.lr, self.encoder_lr = lr, lr if encoder_lr is None else encoder_lr
        if freeze:
            encoder.requires_grad_(False)

    def predict(self, features: Features, batch: Batch) -> Any:
        """The predictions of the head from an encoder's features of a batch."""
        raise ConfigError(f"{type(self).__name__} has no predict(features, batch); define one")

    def loss(self, prediction: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar loss of a training batch, and further values to log."""
        raise ConfigError(f"{type(self).__name__} has no loss(prediction, batch); define one")

    def score(self, data: DataModule) -> dict[str, Any]:
        """The metrics on the test split; called once, at the end."""
        raise ConfigError(f"{type(self).__name__} has no score(data); define one")

    def check(self, data: DataModule) -> None:
        """Check before the training that :meth:`score` will be possible."""

    def described(self, data: DataModule) -> dict[str, Any]:
        """What the card of the checkpoint says of the predictions (JSON-able)."""
        return {}

    def augmented(self, batch: Batch) -> Batch:
        """The clouds of a training batch as the encoder sees them."""
        (view,) = self.views(batch, self.seed, "augment", self.global_step, self.global_rank)
        return view.batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW with one learning rate for head and decoder, and one for the encoder."""
        groups = decayed(self.head, self.weight_decay, self.lr)
        if self.decoder is not None:
            groups += decayed(self.decoder, self.weight_decay, self.lr)
        if not self.frozen:
            groups += decayed(self.encoder, self.weight_decay, self.encoder_lr)
        return torch.optim.AdamW(groups)

    def on_train_epoch_start(self) -> None:
        """Set a frozen encoder to evaluation mode, so that it keeps its running statistics."""
        if self.frozen:
            self.encoder.eval()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rates by the elapsed fraction of the run."""
        set_learning_rates(self.optimizers(), warmup_cosine(elapsed_fraction(self.trainer, MIDDLE), self.warmup))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        seen = self.augmented(batch)
        with torch.set_grad_enabled(not self.frozen):
            features, penalty = encoded(self.encoder, seen)
        with seeded(self.seed, "dropout", self.global_step, self.global_rank):
            prediction = self.predict(features, seen)
        loss, logged = self.loss(prediction, seen)
        draw = generator(self.seed, "settings", self.global_step)
        classifier = self.head if isinstance(self.head, Classifier) else None
        own = None if classifier is not None or self.on_points else partial(self._setting_loss, seen)
        added = added_loss(self.encoder, seen, features.cloud, draw, classifier, own)
        for term in (added, None if self.frozen else penalty):
            loss = loss if term is None else loss + term
        for name, value in {"loss": loss.detach(), **logged}.items():
            self.log(name, value, prog_bar=True, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def _setting_loss(self, seen: Batch, features: Features) -> Tensor:
        """() loss of the head on the features of a smaller setting.

        The head is in evaluation mode, as it will be when the setting is used: its norms have one set of statistics,
        those of the largest setting.
        """
        training = self.head.training
        self.head.eval()
        try:
            return self.loss(self.predict(features, seen), seen)[0]
        finally:
            self.head.train(training)

    @torch.no_grad()
    def predictions(self, data: DataModule, split: str) -> Tensor:
        """The predictions for all clouds of a split, in order, on the CPU."""
        self.eval()
        loader = data.loader(split)
        return torch.cat([self(batch.to(self.device)).cpu() for batch in loader])

    def forward(self, batch: Batch) -> Tensor:
        """The predictions for a batch of clouds."""
        return self.predict(self.encoder(batch), batch)
