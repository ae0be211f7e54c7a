"""Equivariant contrast (PeCLR, arXiv 2106.05953): the known motion of each view is undone in the embedding first."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geo3d.checks import Range, checked
from geo3d.distributed import gather
from geo3d.errors import ConfigError
from geo3d.objectives.info_nce import positive_similarity
from geo3d.objectives.objective import Motions, Objective, Temperature, Terms


def undone(embedding: Tensor, motion: Tensor) -> Tensor:
    """(B, D') embeddings read as D' / 3 points in space, after the inverse of each cloud's motion.

    A cloud was moved by ``p -> A p + t``. With R the rotation nearest to A and s^3 its determinant, each point q of its
    embedding becomes ``R^T (q - t) / s``: what a stretch does beside that is not undone. Columns that do not fill a
    point are left out.

    Args:
        embedding: (B, D).
        motion: (B, 4, 4).

    Example:
        >>> motion = torch.eye(4)
        >>> motion[0, 3] = 1.0
        >>> undone(torch.tensor([[3.0, 2.0, 1.0, 9.0]]), motion[None]).tolist()
        [[2.0, 2.0, 1.0]]
    """
    points = embedding[:, : embedding.shape[1] // 3 * 3].unflatten(1, (-1, 3))
    left, sizes, right = torch.linalg.svd(motion[:, :3, :3].to(points.dtype))
    scale = sizes.prod(1)[:, None, None] ** (1 / 3)
    return ((points - motion[:, None, :3, 3].to(points.dtype)) @ (left @ right) / scale).flatten(1)


def similar_poses(joints: Tensor, width: float) -> Tensor:
    """(B, B) weights ``exp(-d^2 / (2 width^2))``, with d the root mean square distance of the joints of two hands.

    Args:
        joints: (B, J, 3) at a common scale.
        width: Of the bell; 0 gives the identity: each hand is like itself alone.
    """
    if width == 0:
        return torch.eye(len(joints), dtype=joints.dtype, device=joints.device)
    flat = joints.flatten(1)
    squared = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist").square() / joints.shape[1]
    return (-squared / (2 * width**2)).exp()


def weighted_info_nce(views: Sequence[Tensor], weights: Tensor, temperature: float = 0.1) -> Tensor:
    """The loss () = mean over anchors a of ``-sum_c w(a, c) log(e(a, c) / sum_k e(a, k)) / sum_c w(a, c)``.

    e(a, c) = exp(cosine(a, c) / temperature), and the candidates c and k are the V B - 1 embeddings other than a. With
    the identity as weights this is :func:`geo3d.objectives.info_nce.info_nce`.

    Args:
        views: V embeddings (B, D), V at least 2.
        weights: (B, B) how much a cloud counts as another view of a cloud.
        temperature: Divides the cosines.
    """
    z = F.normalize(torch.cat(list(views)), dim=-1)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    similarity = (z @ z.T / temperature).masked_fill(itself, float("-inf"))
    chance = similarity.log_softmax(1).masked_fill(itself, 0.0)
    counts = weights.repeat(len(views), len(views)).masked_fill(itself, 0.0)
    return -((counts * chance).sum(1) / counts.sum(1)).mean()


class EquivariantInfoNCE(Objective):
    """InfoNCE on embeddings that move with the cloud: each view's rotation, scale and translation is undone first.

    An embedding is read as points in space. An invariant objective removes how a hand is turned from the features, but
    the regression of joints needs it; here it stays. All other differences of the views, such as noise, missing points
    and occlusion, should not change the embedding.

    Args:
        temperature: Divides the cosines.
        similar: Width, in units of the normalised clouds, of the weights with which other clouds of similar joints
            count as positives too (as in arXiv 2409.09714); for data with joints. 0 for none.
        follows: Classes of ``geo3d.invariance`` that the views must draw. Every rotation, scale and translation of the
            views is undone, also those of other classes.
    """

    needs = "motions"

    @checked
    def __init__(
        self,
        temperature: Temperature = 0.1,
        similar: Annotated[float, Range(0, 10)] = 0.0,
        follows: Sequence[str] = ("SO3",),
    ) -> None:
        super().__init__()
        self.temperature, self.similar, self.follows = temperature, similar, tuple(follows)
        self.equivariant_to = self.follows  # type: ignore[misc]

    def loss_given(self, views: list[Tensor], targets: list[Tensor], given: Any) -> tuple[Tensor, Terms]:
        """The loss and the mean cosine of positive pairs, after the motions are undone.

        Raises:
            ConfigError: If the embeddings have fewer than three columns, or joints are missing.
        """
        assert isinstance(given, Motions)
        if views[0].shape[1] < 3:
            raise ConfigError(f"EquivariantInfoNCE: embeddings need 3 columns or more; found {views[0].shape[1]}")
        still = [gather(undone(v, motion)) for v, motion in zip(views, given.motions, strict=True)]
        weights = similar_poses(gather(self._joints(given, views[0])), self.similar)
        loss = weighted_info_nce(still, weights.to(still[0].dtype), self.temperature)
        return loss, {"positive_similarity": positive_similarity(still)}

    def _joints(self, given: Motions, like: Tensor) -> Tensor:
        if self.similar == 0:
            return like.new_zeros(len(like), 1, 3)
        if given.joints is None:
            raise ConfigError("objective.similar: compares joints, which the data does not have; give 0")
        return given.joints

    def extra_repr(self) -> str:
        """The arguments."""
        return f"temperature={self.temperature}, similar={self.similar}, follows={self.follows}"
