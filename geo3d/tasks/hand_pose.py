"""Hand pose: the joints of a hand, by fine-tuning an encoder or training it from scratch."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Batch

from geo3d.checks import OneOf, Range, checked
from geo3d.cloud import Features
from geo3d.data.hands.skeleton import BONES, JOINTS
from geo3d.data.targets import Joints
from geo3d.errors import ConfigError
from geo3d.geometry.principal import sign_choices
from geo3d.geometry.rotation import rotate
from geo3d.heads import JointRefiner
from geo3d.heads.joints import Estimate, anchor_channels
from geo3d.heads.prediction import estimates, homeward
from geo3d.invariance.views import Views
from geo3d.pose_metrics import MILLIMETRES, calibration, pose_metrics
from geo3d.seeds import generator
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.supervised import Supervised

EARLIER = 0.8
"""Each step of a head of several steps counts this much less than the one after it (HandR2N2)."""


class Compared(NamedTuple):
    """Joints of all clouds of a split, in millimetres in the source's coordinates."""

    predicted: Tensor
    """(F, J, 3) float64."""
    truth: Tensor
    """(F, J, 3) float64."""
    std: Tensor
    """(F, J) predicted standard deviation of each coordinate."""
    steps: Tensor
    """(F,) estimates that the head made."""


class HandPose(Supervised):
    """A head for joints behind an encoder of clouds.

    The loss is the smooth L1 distance of the joints after every step of the head, the last one counting most, plus the
    negative log-likelihood of the errors under the predicted uncertainty. The likelihood trains the uncertainty alone.

    Args:
        encoder: Any encoder.
        target: The joints.
        views: Makes the one augmented view of a training batch.
        head: A class of ``geo3d.heads``: JointRegressor, JointVoter or JointRefiner.
        beta: Errors above this are punished linearly, in units of the normalised cloud.
        uncertainty: Weight of the negative log-likelihood.
        margin: A further step is worth it, for the head's gate, if it lowers the error by more than this fraction.
        signs: 4 averages the predictions for the four choices of signs of the coordinates, for clouds in their
            principal axes (``data.normalize=oriented_box``); in training one is drawn for each cloud. 1 takes the
            coordinates as they are.
        training: See :class:`geo3d.tasks.supervised.Supervised`.
    """

    learns = "joints"

    @checked
    def __init__(
        self,
        encoder: Any,
        target: Joints,
        views: Views,
        *,
        head: Callable[..., nn.Module] = JointRefiner,
        beta: Annotated[float, Range(0, 10, above=True)] = 0.05,
        uncertainty: Annotated[float, Range(0, 10)] = 0.01,
        margin: Annotated[float, Range(0, 1)] = 0.02,
        signs: Annotated[int, OneOf(1, 4)] = 1,
        **training: Any,
    ) -> None:
        super().__init__(encoder, views, **training)
        self.names, self.beta, self.uncertainty, self.margin, self.signs = (
            target.names, beta, uncertainty, margin, signs,
        )  # fmt: skip
        self.head = head_for(encoder, head, len(target.names))
        self.test: Compared | None = None  # what was last scored

    def predict(self, features: Features, batch: Batch) -> list[Estimate]:
        """The estimates of all steps, in the coordinates of the batch."""
        return self.head(features)

    def loss(self, prediction: list[Estimate], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of all steps, and the mean distance of the last joints in units of the batch."""
        truth = batch.joints.float()
        distances = [(each.joints.float() - truth).norm(dim=2) for each in prediction]
        loss = truth.new_zeros(())
        for later, each in enumerate(reversed(prediction)):
            error = each.joints.float() - truth
            weight = EARLIER**later
            loss = loss + weight * functional.smooth_l1_loss(each.joints.float(), truth, beta=self.beta)
            log_std = each.log_std.float()
            likelihood = 3 * log_std + 0.5 * error.detach().square().sum(2) * (-2 * log_std).exp()
            loss = loss + weight * self.uncertainty * likelihood.mean()
        last = distances[-1].detach().mean(1)
        for each, distance in zip(prediction, distances, strict=True):
            if each.go_on is not None:
                worth = (distance.detach().mean(1) > (1 + self.margin) * last).float()
                loss = loss + self.uncertainty * functional.binary_cross_entropy_with_logits(each.go_on.float(), worth)
        return loss, {"train_error": last.mean()}

    def augmented(self, batch: Batch) -> Batch:
        """The clouds of a training batch; with four ``signs`` each in one of the four choices."""
        seen = super().augmented(batch)
        if self.signs == 1:
            return seen
        draw = generator(self.seed, "signs", self.global_step, self.global_rank)
        which = torch.randint(self.signs, (len(seen.ptr) - 1,), generator=draw).to(seen.pos.device)
        return rotate(sign_choices(seen.pos)[which], seen)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """The joints at both ends of each bone; none for joints of another set."""
        return BONES if self.names == JOINTS else ()

    def compared(self, data: DataModule, split: str) -> Compared:
        """The joints of all clouds of a split, predicted and true, in millimetres."""
        self.eval()
        return compare(self.encoder, self.head, data, split, self.signs)

    def check(self, data: DataModule) -> None:
        """Check that every cloud of the data is one whole hand with its joints.

        Raises:
            ConfigError: If an option of the data does not fit joints.
        """
        for name, value in (("block", data.block), ("label_points", data.label_points)):
            if value is not None:
                raise ConfigError(f"data.{name}: is for labels of points; joints belong to a whole hand; leave it out")
        if self.signs == 4 and data.normalize != "oriented_box":
            raise ConfigError(
                f"task.signs=4: averages over signs of principal axes; data.normalize is {data.normalize}; give "
                "data.normalize=oriented_box, or task.signs=1"
            )
        if data.cloud("train", 0).get("view_id") is not None:
            raise ConfigError("data: its clouds are pairs of views, for pretraining; give data.view=single")

    def score(self, data: DataModule) -> dict[str, Any]:
        """Errors of the joints on the test split, in millimetres, and how far the uncertainty can be trusted."""
        self.test = test = self.compared(data, "test")
        return {
            **pose_metrics(test.predicted, test.truth, self.bones),
            "calibration": calibration(test.predicted, test.truth, test.std),
            "steps": float(test.steps.double().mean()),
        }

    def described(self, data: DataModule) -> dict[str, Any]:
        """The names of the joints, how predictions are averaged, and the size of the cube around a hand."""
        cut = getattr(data.dataset("test"), "cut", None)
        said = {"joints": list(self.names), "signs": self.signs}
        return said if cut is None else said | {"cut": cut}


@torch.no_grad()
def compare(encoder: nn.Module, head: nn.Module, data: DataModule, split: str, signs: int = 1) -> Compared:
    """The joints of all clouds of a split, predicted and true, in millimetres.

    Args:
        encoder: In evaluation mode.
        head: In evaluation mode, one of the heads for joints.
        data: The clouds.
        split: "train" or "test".
        signs: 1, or 4 to average over the choices of signs, see :class:`HandPose`.
    """
    device, parts = next(head.parameters()).device, []
    for batch in data.loader(split):
        made = estimates(encoder, head, batch.to(device), signs)
        linear, shift = homeward(batch)
        truth = batch.joints.double() @ linear.mT + shift
        parts.append((*(MILLIMETRES * each.cpu() for each in (made.joints, truth, made.std)), made.steps.cpu()))
    return Compared(*(torch.cat(each) for each in zip(*parts, strict=True)))


def head_for(encoder: Any, make: Callable[..., nn.Module], joints: int) -> nn.Module:
    """A head with the channels of the encoder.

    Raises:
        ConfigError: If ``make`` is not a head for joints.
    """
    takes = inspect.signature(make).parameters
    if "num_joints" not in takes:
        raise ConfigError(f"head: expected JointRegressor, JointVoter or JointRefiner of geo3d.heads; found {make}")
    reads: dict[str, Any] = {"in_channels": encoder.cloud_channels, "num_joints": joints}
    if "anchor_channels" in takes:
        reads["anchor_channels"] = anchor_channels(encoder)
    return make(**reads)
