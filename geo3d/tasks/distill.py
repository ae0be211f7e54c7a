"""Training of a compressed encoder to say what the encoder it was made from says; labels may help."""

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
    """A student encoder beside its teacher; the teacher sees the same view and is not trained.

    The loss is the squared distance of the cloud features, in units of the deviation that each channel of the teacher's
    has over the batch; with heads also the divergence of the student's class probabilities from the teacher's, and with
    labels the cross-entropy. Both encoders take their statistics from the batch, so that the student is not asked to
    make up for their noise: an exact copy has no loss. (Against a teacher in evaluation mode a copy in full precision
    lost 1.6 points of accuracy within 500 steps.) For the same reason the regulariser of PointNet's feature transform
    is left out: the student imitates the teacher's transform. Heads keep their statistics, and do without dropout.

    Args:
        student: The compressed encoder.
        teacher: The encoder it shall imitate, copied; of as many cloud channels (or more, if the student was pruned).
        views: Makes the one view of a batch.
        head: The student's classifier, trained along; None without one.
        teacher_head: The teacher's.
        labels: Weight of the cross-entropy; 0 uses no labels.
        temperature: Of the probabilities that are compared.
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
        """The learning rate follows the elapsed fraction of the run; encoders train, heads are as in evaluation."""
        self.teacher[0].train()  # Lightning leaves modes as they come, and a loaded encoder comes in evaluation mode
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
    """Mean squared difference of (B, D) features, each channel in units of its deviation in ``wanted``.

    The unit is at least a tenth of the typical standard deviation, so that noise of constant channels does not count.
    """
    deviation = wanted.std(0, correction=0)
    unit = deviation.clamp_min(0.1 * float(deviation.square().mean().sqrt()) + 1e-6)
    return scaled_distance(cloud, wanted, unit)
