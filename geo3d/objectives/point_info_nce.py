"""PointInfoNCE (PointContrast, arXiv 2007.10985): find a point of one view among all points of the other view."""

from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from geo3d.checks import checked
from geo3d.distributed import gather
from geo3d.objectives.objective import Objective, Pairs, Radius, Temperature, Terms


def point_info_nce(query: Tensor, key: Tensor, temperature: float = 0.4) -> Tensor:
    """The loss () = mean over i of ``-log(exp(q_i . k_i / t) / sum over j of exp(q_i . k_j / t))``, rows of length 1.

    Args:
        query: (P, D) embeddings of points in one view.
        key: (P, D) embeddings of the same points in the other view; the keys of all other points are negatives.
        temperature: t, which divides the cosines.

    Example:
        >>> round(float(point_info_nce(torch.eye(3), torch.eye(3), temperature=1.0)), 4)  # log(e + 2) - 1
        0.5514
    """
    logits = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).T / temperature
    return (logits.logsumexp(1) - logits.diagonal()).mean()


class PointInfoNCE(Objective):
    """PointContrast's objective in both directions; the points of all processes are candidates.

    See :func:`point_info_nce` for one direction, as published.

    Args:
        pairs: Pairs of matching points that a process draws from its batch.
        temperature: Divides the cosines.
        radius: 0 pairs each point with itself in the other view; otherwise with the nearest point of the other view
            that is at most this far away, before the invariances act, in units of the clouds as the data module
            prepares them. Two frames need it: .0375 m as published.
    """

    on = "point"

    @checked
    def __init__(self, pairs: Pairs = 1024, temperature: Temperature = 0.4, radius: Radius = 0.0) -> None:
        super().__init__()
        self.pairs, self.temperature, self.radius = pairs, temperature, radius

    def loss(self, views: list[Tensor], targets: list[Tensor]) -> tuple[Tensor, Terms]:
        """The mean loss over ordered pairs of views, and the mean cosine of matching points."""
        pairs = list(permutations([gather(view) for view in views], 2))
        losses = [point_info_nce(query, key, self.temperature) for query, key in pairs]
        cosines = [F.cosine_similarity(query, key).mean() for query, key in pairs]
        return torch.stack(losses).mean(), {"positive_similarity": torch.stack(cosines).mean()}

    def extra_repr(self) -> str:
        """The arguments."""
        return f"pairs={self.pairs}, temperature={self.temperature}, radius={self.radius}"
