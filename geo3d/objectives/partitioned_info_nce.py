"""PartitionedInfoNCE (Contrastive Scene Contexts, arXiv 2012.09165): find a point among those in one part of the scene.

Around each point the others are divided by how far away they are and whether they are above or below it.
"""

from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from geo3d.checks import checked, ordered
from geo3d.objectives.objective import Objective, Pairs, Places, Radius, Temperature, Terms


def partition(places: Places, inner: float, outer: float) -> Tensor:
    """(P, P) part, from 0 to 3, of point j around point i; -1 where j is of another cloud, too near, or level with i.

    Parts 0 and 1 hold the points above and below that are from ``inner`` to ``outer`` away, 2 and 3 those farther away.

    Example:
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.0], [0, 0, 5.0], [0, 0, 0.1]])
        >>> partition(Places(pos, torch.zeros(4)), inner=0.5, outer=2.0)[0].tolist()
        [-1, 0, 2, -1]
    """
    offset = places.pos[None] - places.pos[:, None]
    distance, height = offset.norm(dim=2), offset[:, :, 2]
    part = (height < 0).long() + 2 * (distance > outer)
    beside = (places.cloud[None] != places.cloud[:, None]) | (distance <= inner) | (height == 0)
    return part.masked_fill(beside, -1)


def partitioned_info_nce(query: Tensor, key: Tensor, part: Tensor, temperature: float = 0.4) -> Tensor:
    """The loss () = mean over i and parts p of ``-log(e(i, i) / (e(i, i) + sum of e(i, j) over j in part p of i))``.

    e(i, j) = exp(cosine(q_i, k_j) / temperature). A part without points adds 0 to the sum, as published.

    Args:
        query: (P, D) embeddings of points in one view.
        key: (P, D) embeddings of the same points in the other view.
        part: (P, P) as :func:`partition` gives it.
        temperature: Divides the cosines.
    """
    logits = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).T / temperature
    own = logits.diagonal()
    losses = []
    for number in range(4):
        others = logits.masked_fill(part != number, float("-inf"))
        losses.append(torch.cat([own[:, None], others], 1).logsumexp(1) - own)
    return torch.stack(losses).mean()


class PartitionedInfoNCE(Objective):
    """The objective of Contrastive Scene Contexts in both directions; only points of the same cloud are negatives.

    See :func:`partitioned_info_nce` for one direction.

    Args:
        pairs: Pairs of matching points that a process draws from its batch.
        temperature: Divides the cosines.
        radius: How far matching points may be apart, as in ``PointInfoNCE``.
        inner: Points nearer than this are no negatives, in units of the clouds.
        outer: Points farther than this are in the outer parts.
    """

    on = "point"
    needs = "places"

    @checked
    def __init__(
        self,
        pairs: Pairs = 1024,
        temperature: Temperature = 0.4,
        radius: Radius = 0.0,
        inner: Radius = 0.05,
        outer: Radius = 0.5,
    ) -> None:
        super().__init__()
        ordered(self, "inner", "outer", inner, outer)
        self.pairs, self.temperature, self.radius, self.inner, self.outer = pairs, temperature, radius, inner, outer

    def loss_given(self, views: list[Tensor], targets: list[Tensor], given: Places) -> tuple[Tensor, Terms]:
        """The mean loss over ordered pairs of views, and the mean cosine of matching points."""
        # clouds do not span processes, and all have the same number of pairs: nothing has to be gathered
        part = partition(given, self.inner, self.outer)
        pairs = list(permutations(views, 2))
        losses = [partitioned_info_nce(query, key, part, self.temperature) for query, key in pairs]
        cosines = [F.cosine_similarity(query, key).mean() for query, key in pairs]
        return torch.stack(losses).mean(), {"positive_similarity": torch.stack(cosines).mean()}

    def extra_repr(self) -> str:
        """The arguments."""
        return ", ".join(
            f"{name}={getattr(self, name)}" for name in ("pairs", "temperature", "radius", "inner", "outer")
        )
