"""BYOL (arXiv 2006.07733): predict the teacher's embedding of another view; there are no negatives."""

from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from geo3d.objectives.objective import Objective, Terms


def byol(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean () over rows of ``2 - 2 cosine(prediction, target)``, the squared distance of the unit vectors.

    Args:
        prediction: (B, D) the predictor's output for one view.
        target: (B, D) the teacher's embedding of another view.

    Example:
        >>> z = torch.eye(4)
        >>> float(byol(z, z)), float(byol(z, -z))
        (0.0, 4.0)
    """
    return (F.normalize(prediction, dim=-1) - F.normalize(target, dim=-1)).square().sum(-1).mean()


class BYOL(Objective):
    """BYOL's symmetric objective: both directions are added; with more views, twice the mean over ordered pairs.

    The loss alone does not keep the embeddings from collapsing to one vector; the predictor and the teacher do.
    """

    teacher = True
    predictor = True

    def loss(self, views: list[Tensor], targets: list[Tensor]) -> tuple[Tensor, Terms]:
        """The loss and the mean cosine of predictions with their targets."""
        # the loss is a mean over rows, so averaging it over processes needs no gathering
        pairs = permutations(range(len(views)), 2)
        mean = torch.stack([byol(views[i], targets[j]) for i, j in pairs]).mean()
        return 2 * mean, {"positive_similarity": 1 - mean / 2}
