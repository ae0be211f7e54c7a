"""Pretraining without labels, top to bottom: views, encoder, projector, objective."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d.checks import Decay, Length, Rate, Seed, Share, Size, checked
from geo3d.compress import added_loss
from geo3d.distributed import gather
from geo3d.errors import CollapseError, ConfigError
from geo3d.heads import Predictor, Projector
from geo3d.invariance.views import Views
from geo3d.metrics import effective_rank, embedding_std
from geo3d.seeds import generator
from geo3d.tasks.average import average_of, copy_buffers, update_average
from geo3d.tasks.regularize import encoded
from geo3d.tasks.schedule import MIDDLE, decayed, elapsed_share, set_learning_rates, warmup_cosine


class Pretrain(pl.LightningModule):
    """Trains ``encoder`` so that ``objective`` holds between views of the same cloud.

    Args:
        encoder: Any encoder; only its cloud features are used.
        objective: One of ``geo3d.objectives``.
        views: Makes the views of a batch.
        projector: Sizes of the projector's layers behind ``cloud_channels``: equal hidden ones, then the embedding's.
        lr: Peak learning rate of AdamW.
        weight_decay: On weight matrices only.
        warmup: Share of the run in which the learning rate rises.
        ema: Momentum of the teacher at the start, rising to 1; for objectives that want one.
        average: Momentum of the averaged weights that are published instead of the last ones; 0 for none.
        seed: Key of every draw.
    """

    @checked
    def __init__(
        self,
        encoder: Any,
        objective: Any,
        views: Views,
        *,
        projector: Annotated[Sequence[Size], Length(1, 16)] = (512, 128),
        lr: Rate = 1e-3,
        weight_decay: Decay = 1e-4,
        warmup: Share = 0.05,
        ema: Share = 0.99,
        average: Share = 0.0,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        hidden, channels = projector[0], projector[-1]
        if getattr(objective, "dim", channels) != channels:
            raise ConfigError(
                f"objective.dim={objective.dim}, but the embeddings have the projector's last size, {channels}; "
                f"give objective.dim={channels} or another projector"
            )
        self.encoder, self.objective, self.views = encoder, objective, views
        self.projector = Projector(encoder.cloud_channels, hidden, channels, num_layers=len(projector))
        self.predictor = Predictor(channels, hidden) if objective.predictor else None
        self.teacher: Any = average_of(nn.ModuleList([encoder, self.projector])) if objective.teacher else None
        self.averaged = average_of(encoder) if average > 0 else None
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup
        self.ema, self.average, self.seed = ema, average, seed

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over encoder, projector, predictor, and the objective's own parameters if it has any."""
        parts = [self.encoder, self.projector, self.objective, *([self.predictor] if self.predictor else [])]
        trained = nn.ModuleList(parts)
        return torch.optim.AdamW(decayed(trained, self.weight_decay, self.lr))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """The learning rate follows the elapsed share of the run, so that nothing has to be stored for it."""
        set_learning_rates(self.optimizers(), warmup_cosine(elapsed_share(self.trainer, MIDDLE), self.warmup))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch of clouds."""
        views = self.views(batch, self.seed, "views", self.global_step, self.global_rank)
        passes = [encoded(self.encoder, view.batch) for view in views]
        embeddings = [self.projector(cloud) for cloud, _ in passes]
        outputs = [self.predictor(z) for z in embeddings] if self.predictor else embeddings
        targets = None
        if self.teacher is not None:
            encoder, projector = self.teacher
            with torch.no_grad():
                targets = [projector(encoder(view.batch).cloud) for view in views]
        loss, terms = self.objective(outputs, targets)
        draw = generator(self.seed, "settings", self.global_step)
        added = added_loss(self.encoder, views[0].batch, passes[0][0], draw)
        if added is not None:
            loss, terms = loss + added, terms | {"compression": added.detach()}
        penalties = [penalty for _, penalty in passes if penalty is not None]
        if penalties:
            penalty = torch.stack(penalties).mean()
            loss, terms = loss + penalty, terms | {"regularizer": penalty.detach()}
        self.record(loss, terms, embeddings[0].detach())
        return loss

    def record(self, loss: Tensor, terms: dict[str, Tensor], embedding: Tensor) -> None:
        """Log the loss, its terms, and how far the embeddings are from collapse."""
        if not torch.isfinite(loss):
            step = self.global_step + 1
            raise CollapseError(f"step {step}: the loss is {loss.item()}; lower lr, or use trainer.precision=32-true")
        embedding = gather(embedding.float())  # every process judges the same rows
        values = {"loss": loss.detach(), **terms, "std": embedding_std(embedding), "rank": effective_rank(embedding)}
        for name, value in values.items():
            self.log(name, value, prog_bar=name in ("loss", "std", "rank"), on_step=False, on_epoch=True, batch_size=1)
        self.last = {name: float(value) for name, value in values.items()}

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        """Move the averages after the optimiser's step."""
        if self.teacher is not None:
            share = elapsed_share(self.trainer)
            momentum = 1 - (1 - self.ema) * (math.cos(math.pi * share) + 1) / 2
            update_average(self.teacher, nn.ModuleList([self.encoder, self.projector]), momentum)
        if self.averaged is not None:
            update_average(self.averaged, self.encoder, min(self.average, self.global_step / (self.global_step + 10)))

    def published(self) -> nn.Module:
        """The encoder to save: the averaged one if there is one, with the running statistics of the trained one."""
        if self.averaged is None:
            return self.encoder
        copy_buffers(self.averaged, self.encoder)
        return self.averaged
