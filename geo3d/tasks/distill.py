"""Training of a compressed encoder to reproduce the features of the original encoder, with or without labels."""

import copy
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Batch

from geo3d.checks import Decay, Points, Range, Rate, Seed, Share, checked
from geo3d.compress import added_loss, outputs_left
from geo3d.invariance.views import Views
from geo3d.nn.imitation import divergence, scaled_distance
from geo3d.seeds import generator
from geo3d.tasks.schedule import MIDDLE, decayed, elapsed_fraction, set_learning_rates, warmup_cosine


class Distill(pl.LightningModule):
    """Trains a student encoder to reproduce its teacher, which sees the same view and is not trained.

    The loss is the mean squared distance of the cloud features, each channel in units of the std that the teacher's
    channel has over the batch. With heads it adds the divergence of the student's class probabilities from the
    teacher's, and with labels the cross-entropy.

    Both encoders use batch statistics, so that the student need not make up for their noise: an exact copy has no loss.
    (With a teacher in evaluation mode, a copy in full precision lost 1.6 points of accuracy within 500 steps.) For the
    same reason the regulariser of PointNet's feature transform is left out: the student imitates the teacher's
    transform. Heads stay in evaluation mode: they use their running statistics, and no dropout.

    Args:
        student: The compressed encoder.
        teacher: The encoder to imitate, which is copied. It has as many cloud channels as the student, or more if the
            student was pruned.
        views: Makes the one view of a batch.
        head: The student's classifier, trained with it; None for none.
        teacher_head: The teacher's classifier, which has to be there if ``head`` is.
        labels: Weight of the cross-entropy; 0 uses no labels.
        temperature: Temperature of the class probabilities that are compared.
        points: How many points of a view the student sees; by default all, as the teacher does.
        lr: Peak learning rate.
        weight_decay: On weight matrices only.
        warmup: Fraction of the run in which the learning rate rises.
        seed: Key of every draw.
    """

    @checked
    def __init__(
        self,
        student: Any,
        teacher: Any,
        views: Views,
        *,
        head: nn.Module | None = None,
        teacher_head: nn.Module | None = None,
        labels: Annotated[float, Range(0, 1000)] = 0.0,
        temperature: Annotated[float, Range(0, 1000, above=True)] = 2.0,
        points: Points | None = None,
        lr: Rate = 1e-3,
        weight_decay: Decay = 1e-4,
        warmup: Share = 0.05,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.student, self.head, self.views = student, head, views
        self.outputs = outputs_left(student)
        teachers = [copy.deepcopy(m) for m in (teacher, teacher_head) if m is not None]
        self.teacher = nn.ModuleList(teachers).requires_grad_(False)
        self.labels, self.temperature, self.seed, self.points = labels, temperature, seed, points
        self.lr, self.weight_decay, self.warmup = lr, weight_decay, warmup

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the student and its head."""
        trained = nn.ModuleList([m for m in (self.student, self.head) if m is not None])
        return torch.optim.AdamW(decayed(trained, self.weight_decay, self.lr))

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate by the elapsed fraction of the run, and the modes of the teacher and the heads."""
        self.teacher[0].train()  # Lightning keeps the modes of modules, and a loaded encoder is in evaluation mode
        for head in (self.head, *self.teacher[1:]):
            if head is not None:
                head.eval()
        set_learning_rates(self.optimizers(), warmup_cosine(elapsed_fraction(self.trainer, MIDDLE), self.warmup))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        (view,) = self.views(batch, self.seed, "distil", self.global_step, self.global_rank)
        with torch.no_grad():
            wanted = self.teacher[0](view.batch).cloud
        seen = view.batch if self.points is None else self.views.of_fewer_points(view, self.points)
        cloud = self.student(seen).cloud
        left = wanted if self.outputs is None else wanted[:, self.outputs]
        terms = {"features": feature_distance(cloud, left)}
        if self.head is not None:
            logits = self.head(cloud)
            with torch.no_grad():
                target = self.teacher[1](wanted)
            terms["logits"] = divergence(logits, target, self.temperature)
            if self.labels:
                terms["labels"] = self.labels * functional.cross_entropy(logits, batch.y)
        draw = generator(self.seed, "settings", self.global_step)  # the same on all processes
        added = added_loss(self.student, seen, cloud, draw, self.head)
        if added is not None:
            terms["compression"] = added
        loss = torch.stack(list(terms.values())).sum()
        for name, value in {"loss": loss, **terms}.items():
            self.log(name, value.detach(), prog_bar=name == "loss", on_step=False, on_epoch=True, batch_size=1)
        return loss


def feature_distance(cloud: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference of (B, D) features, each channel in units of its std over the batch in ``wanted``.

    A unit is at least a tenth of the root mean square of them all, so that noise of constant channels does not count.
    """
    std = wanted.std(0, correction=0)
    unit = std.clamp_min(0.1 * float(std.square().mean().sqrt()) + 1e-6)
    return scaled_distance(cloud, wanted, unit)
