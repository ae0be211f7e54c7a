"""Training of a compressed segmentation network to reproduce the logits of the original network."""

import copy
from typing import Annotated

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional
from torch_geometric.data import Batch

from geo3d.checks import Decay, Range, Rate, Seed, Share, checked
from geo3d.compress import penalty
from geo3d.invariance.views import Views
from geo3d.network import PointNetwork
from geo3d.nn.imitation import divergence
from geo3d.tasks.schedule import MIDDLE, decayed, elapsed_fraction, set_learning_rates, warmup_cosine


class DistillPoints(pl.LightningModule):
    """Trains encoder, decoder and head of a student to reproduce its teacher, which sees the same points.

    The loss is the divergence of the student's class probabilities from the teacher's, averaged over all points. No
    features are compared: only the logits are used in the end, and the decoder may read any level of the encoder. With
    labels it adds the cross-entropy over the labelled points.

    As in :class:`geo3d.tasks.distill.Distill`, encoders and decoders use batch statistics, so that an exact copy has no
    loss, and heads stay in evaluation mode.

    Args:
        student: The compressed network.
        teacher: The network to imitate, which is copied.
        views: Makes the one view of a batch.
        labels: Weight of the cross-entropy; 0 uses no labels.
        ignore: The label of points without a label.
        temperature: Temperature of the class probabilities that are compared.
        lr: Peak learning rate.
        weight_decay: On weight matrices only.
        warmup: Fraction of the run in which the learning rate rises.
        seed: Key of every draw.
    """

    @checked
    def __init__(
        self,
        student: PointNetwork,
        teacher: PointNetwork,
        views: Views,
        *,
        labels: Annotated[float, Range(0, 1000)] = 0.0,
        ignore: int = -1,
        temperature: Annotated[float, Range(0, 1000, above=True)] = 2.0,
        lr: Rate = 1e-3,
        weight_decay: Decay = 1e-4,
        warmup: Share = 0.05,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.student, self.views = student, views
        self.teacher = copy.deepcopy(teacher).requires_grad_(False)
        self.labels, self.ignore, self.temperature, self.seed = labels, ignore, temperature, seed
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the three parts of the student."""
        return torch.optim.AdamW(decayed(self.student, self.weight_decay, self.lr))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate by the elapsed fraction of the run, and the modes of both networks."""
        self.set_modes()
        set_learning_rates(self.optimizers(), warmup_cosine(elapsed_fraction(self.trainer, MIDDLE), self.warmup))

    def set_modes(self) -> None:
        """Let encoders and decoders use batch statistics, and heads their running ones, without dropout."""
        for network in (self.student, self.teacher):  # Lightning keeps the modes that modules had
            network.train()
            network.head.eval()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        (view,) = self.views(batch, self.seed, "distil", self.global_step, self.global_rank)
        with torch.no_grad():
            target = self.teacher(view.batch)
        logits = self.student(view.batch)
        terms = {"logits": divergence(logits, target, self.temperature)}
        if self.labels:
            labelled = view.batch.point_y != self.ignore
            if bool(labelled.any()):  # else of this batch no point is labelled
                loss = functional.cross_entropy(logits[labelled].float(), view.batch.point_y[labelled])
                terms["labels"] = self.labels * loss
        added = penalty(self.student)
        if added is not None:
            terms["compression"] = added
        loss = torch.stack(list(terms.values())).sum()
        for name, value in {"loss": loss, **terms}.items():
            self.log(name, value.detach(), prog_bar=name == "loss", on_step=False, on_epoch=True, batch_size=1)
        return loss
