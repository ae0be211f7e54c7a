"""Pretraining without labels, top to bottom: views, encoder, projector, objective."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d import invariance as known_invariances
from geo3d.checks import Decay, Length, Rate, Seed, Share, Size, checked
from geo3d.cloud import Features
from geo3d.compress import added_loss
from geo3d.decoders import Upcast
from geo3d.decoders.build import decoder_for
from geo3d.distributed import gather
from geo3d.errors import CollapseError, ConfigError, did_you_mean
from geo3d.geometry.normalize import normalized
from geo3d.heads import Predictor, Projector
from geo3d.invariance import Invariance, parts_of
from geo3d.invariance.masks import cross_masked
from geo3d.invariance.views import View, Views
from geo3d.metrics import effective_rank, embedding_std
from geo3d.objectives.objective import Hidden, Motions, Places
from geo3d.seeds import generator
from geo3d.tasks.average import average_of, copy_buffers, update_average
from geo3d.tasks.given import (
    compared_rows,
    drawn_points,
    followed,
    hidden_of,
    matching_rows,
    motions_of,
    places_of,
)
from geo3d.tasks.regularize import encoded
from geo3d.tasks.schedule import MIDDLE, decayed, elapsed_fraction, set_learning_rates, warmup_cosine


class Pretrain(pl.LightningModule):
    """Trains ``encoder`` so that ``objective`` holds between views of the same cloud.

    An objective on clouds compares the projected cloud features. An objective on points compares projected rows of the
    points that both views show; ``decoder`` computes these rows from the features.

    Args:
        encoder: Any encoder.
        objective: One of ``geo3d.objectives``.
        views: Makes the views of a batch.
        projector: Sizes of the projector's layers. All hidden layers have the first size, the embeddings the last.
        lr: Peak learning rate of AdamW.
        weight_decay: On weight matrices only.
        warmup: Fraction of the run in which the learning rate rises.
        ema: Momentum of the teacher at the start; it rises to 1. For objectives with a teacher.
        average: Momentum of the averaged weights, which are published instead of the last ones; 0 for none.
        seed: Key of every draw.
        decoder: Makes a row for each point, for an objective on points; by default ``Upcast``. See ``geo3d.decoders``.

    Raises:
        ConfigError: If an option does not fit, or the views do not fit the objective (:func:`check_invariances`).
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
        decoder: Callable[..., nn.Module] | None = None,
    ) -> None:
        super().__init__()
        check_invariances(objective, views.invariance)
        if objective.on == "point" and not isinstance(getattr(objective, "pairs", None), int):
            raise ConfigError(f"{type(objective).__name__} compares points and needs an attribute pairs, their number")
        if objective.needs == "hidden" and "masked" not in getattr(encoder, "inputs", ("masked",)):
            raise ConfigError(
                f"{type(objective).__name__} hides points, and the encoder must be told which ones; give "
                "encoder.inputs=[masked] or [rgb,masked]"
            )
        if objective.on == "point" and views.num_views != 2:
            raise ConfigError(f"{type(objective).__name__} compares points of two views; found {views.num_views}")
        if decoder is not None and objective.on != "point":
            raise ConfigError(f"decoder: {type(objective).__name__} compares clouds and takes none; leave it out")
        hidden, channels = projector[0], projector[-1]
        if getattr(objective, "dim", channels) != channels:
            raise ConfigError(
                f"objective.dim={objective.dim}, but the embeddings have the projector's last size, {channels}; "
                f"give objective.dim={channels} or another projector"
            )
        self.encoder, self.objective, self.views = encoder, objective, views
        self.decoder: Any = decoder_for(encoder, decoder or Upcast) if objective.on == "point" else None
        if getattr(self.decoder, "categories", 0):
            raise ConfigError(
                "decoder.categories: the category of a cloud is a label, and pretraining reads none; give 0"
            )
        width: Any = encoder.cloud_channels if self.decoder is None else self.decoder.out_channels
        self.projector = Projector(width, hidden, channels, num_layers=len(projector))
        self.predictor = Predictor(channels, hidden) if objective.predictor else None
        self.teacher: Any = average_of(nn.ModuleList(self._averaged_parts())) if objective.teacher else None
        self.averaged = average_of(encoder) if average > 0 else None
        self.averaged_decoder = average_of(self.decoder) if average > 0 and self.decoder is not None else None
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup
        self.ema, self.average, self.seed = ema, average, seed

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over encoder, projector, predictor, and the objective's own parameters if it has any."""
        parts = [self.encoder, self.projector, self.objective, self.predictor, self.decoder]
        trained = nn.ModuleList(part for part in parts if part is not None)
        return torch.optim.AdamW(decayed(trained, self.weight_decay, self.lr))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate by the elapsed fraction of the run, so that no state of a schedule has to be stored."""
        set_learning_rates(self.optimizers(), warmup_cosine(elapsed_fraction(self.trainer, MIDDLE), self.warmup))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch of clouds."""
        if self.objective.needs == "motions":
            batch = normalized(batch, self.views.normalize)
        shown = followed(batch) if self.objective.needs == "motions" else batch
        whole = self.views(shown, self.seed, "views", self.global_step, self.global_rank)
        views = self._masked(whole, batch) if self.objective.needs == "hidden" else whole
        passes = [encoded(self.encoder, view.batch) for view in views]
        rows = self._matched_rows(views, [features for features, _ in passes], batch.pos)
        compared = [
            compared_rows(features, self.decoder, index, len(view.batch.pos))
            for (features, _), index, view in zip(passes, rows, views, strict=True)
        ]
        embeddings = [self.projector(x) for x in compared]
        outputs = [self.predictor(z) for z in embeddings] if self.predictor else embeddings
        targets = None
        if self.teacher is not None:
            encoder, projector, *decoder = self.teacher
            with torch.no_grad():
                behind = decoder[0] if decoder else None
                targets = [
                    projector(compared_rows(encoder(view.batch), behind, index, len(view.batch.pos)))
                    for view, index in zip(views, rows, strict=True)
                ]
        loss, terms = self.objective(outputs, targets, self._given(batch, whole, views, rows))
        draw = generator(self.seed, "settings", self.global_step)
        added = added_loss(self.encoder, views[0].batch, passes[0][0].cloud, draw)
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
        """Update the averages after the optimiser's step."""
        if self.teacher is not None:
            fraction = elapsed_fraction(self.trainer)
            momentum = 1 - (1 - self.ema) * (math.cos(math.pi * fraction) + 1) / 2
            update_average(self.teacher, nn.ModuleList(self._averaged_parts()), momentum)
        self._move_averages(min(self.average, self.global_step / (self.global_step + 10)))

    def _move_averages(self, momentum: float) -> None:
        """Move the averages that are published."""
        for averaged, part in ((self.averaged, self.encoder), (self.averaged_decoder, self.decoder)):
            if averaged is not None:
                update_average(averaged, part, momentum)

    def _averaged_parts(self) -> list[nn.Module]:
        """The modules that a teacher averages."""
        return [self.encoder, self.projector, *([] if self.decoder is None else [self.decoder])]

    def _masked(self, views: Sequence[View], batch: Batch) -> Sequence[View]:
        """The views, each without what the other shows."""
        draw, of = generator(self.seed, "masks", self.global_step, self.global_rank), self.objective
        return cross_masked(views, batch, of.cell, of.rate, of.noise, draw)

    def _matched_rows(
        self, views: Sequence[View], features: Sequence[Features], origin: Tensor
    ) -> Sequence[Tensor | None]:
        """For each view the indices of the points that an objective on points compares; None for one on clouds."""
        if self.decoder is None:
            return [None] * len(views)
        draw = generator(self.seed, "pairs", self.global_step, self.global_rank)
        of = self.objective
        return matching_rows(views, features, origin, of.pairs, of.radius, of.level, draw)

    def _given(
        self, batch: Batch, whole: Sequence[View], views: Sequence[View], rows: Sequence[Any]
    ) -> Places | Hidden | Motions | Tensor | None:
        """What the objective needs beside the embeddings; ``whole`` are the views before anything was hidden."""
        if self.objective.needs == "places":
            return places_of(views[0], batch, rows[0])
        if self.objective.needs == "hidden":
            return hidden_of(whole, views, rows)
        if self.objective.needs == "motions":
            return motions_of(views, batch)
        if self.objective.needs == "clouds":
            draw = generator(self.seed, "clouds", self.global_step, self.global_rank)
            whole = normalized(batch, self.views.normalize)
            return drawn_points(whole, self.objective.points, draw)
        return None

    def published(self) -> tuple[nn.Module, nn.Module | None]:
        """Encoder and decoder to save: the averaged ones if there are any, with the running statistics of training."""
        for averaged, part in ((self.averaged, self.encoder), (self.averaged_decoder, self.decoder)):
            if averaged is not None:
                copy_buffers(averaged, part)
        return self.averaged or self.encoder, self.averaged_decoder or self.decoder


def check_invariances(objective: Any, invariance: Invariance) -> None:
    """Check that the views draw what the objective is invariant and equivariant to, and nothing else.

    An objective that is invariant to ``views`` takes any views that draw what it is equivariant to.

    Raises:
        ConfigError: If they do not.
    """
    declared = (*objective.equivariant_to, *(() if objective.invariant_to == "views" else objective.invariant_to))
    for unknown in (each for each in declared if each not in known_invariances.__all__):
        raise ConfigError(
            f"{type(objective).__name__} declares {unknown}, which geo3d.invariance does not have; "
            f"{did_you_mean(unknown, known_invariances.__all__)}"
        )
    drawn = {type(part).__name__ for part in parts_of(invariance)}
    follows, forgets, name = set(objective.equivariant_to), objective.invariant_to, type(objective).__name__
    if missing := sorted((follows | (set() if forgets == "views" else set(forgets))) - drawn):
        names = ", ".join(sorted(drawn)) or "nothing"
        other = ", or give other names in objective.follows" if hasattr(objective, "follows") else ""
        raise ConfigError(
            f"{name} needs views that differ by {', '.join(missing)}; the invariance draws {names}; add what is "
            f"missing to the invariance{other}"
        )
    if forgets != "views" and (more := sorted(drawn - follows - set(forgets))):
        raise ConfigError(f"{name} is not invariant or equivariant to {', '.join(more)}; take it out of the invariance")
