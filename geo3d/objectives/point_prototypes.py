"""PointPrototypes: predict to which prototype the teacher assigns the same point of the other view.

The ideas of Sonata (arXiv 2503.16429) and SwAV (arXiv 2006.09882): prototypes are learned along, and Sinkhorn's
iterations make the teacher's assignments equally frequent, so that they cannot collapse.
"""

from itertools import permutations
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geo3d.checks import Range, Size, checked
from geo3d.distributed import gather
from geo3d.errors import ConfigError
from geo3d.objectives.objective import Coarse, Objective, Pairs, Radius, Temperature, Terms
from geo3d.seeds import generator


@torch.no_grad()
def sinkhorn(logits: Tensor, iterations: int = 3) -> Tensor:
    """(P, K) assignments of rows to prototypes: each row sums to 1, and all prototypes get about the same sum.

    Starting from ``exp(logits)``, columns and then rows are scaled to equal sums, ``iterations`` times
    (arXiv 1306.0895). Columns are summed over the rows of all processes.

    Example:
        >>> sinkhorn(torch.tensor([[3.0, 0.0], [2.0, 0.0]]), iterations=50).sum(0).tolist()
        [1.0, 1.0]
    """
    log = logits  # in logarithms nothing underflows
    for _ in range(iterations):
        log = log - gather(log.logsumexp(0)[None]).logsumexp(0)
        log = log - log.logsumexp(1, keepdim=True)
    return log.exp()


def assignment_loss(logits: Tensor, assigned: Tensor, temperature: float = 0.1) -> Tensor:
    """The mean () over rows of the cross-entropy ``-sum over k of assigned_k log softmax(logits / temperature)_k``.

    Args:
        logits: (P, K) cosines of the student's embeddings with the prototypes.
        assigned: (P, K) the teacher's assignments.
        temperature: Divides the cosines.
    """
    return -(assigned * F.log_softmax(logits / temperature, dim=1)).sum(1).mean()


class PointPrototypes(Objective):
    """Self-distillation to online prototypes, averaged over the ordered pairs of views. See :func:`assignment_loss`.

    Args:
        dim: Size of the embeddings, the projector's last size.
        prototypes: Number of prototypes.
        pairs: Pairs of matching points that a process draws from its batch.
        temperature: Divides the student's cosines.
        teacher_temperature: Divides the teacher's cosines.
        radius: How far matching points may be apart, as in ``PointInfoNCE``.
        iterations: Sinkhorn's iterations.
        level: 0 compares all points; above, only the centres of this level of the encoder, as Sonata does at coarse
            levels, where fine geometry gives less away. Each is compared with the nearest centre of the other view, so
            ``radius`` must be above 0. Rows without finer levels come from ``Upcast(finest=level)``.

    Raises:
        ConfigError: If an argument is out of its range, or a level above 0 comes without a radius.
    """

    on = "point"
    teacher = True

    @checked
    def __init__(
        self,
        dim: Size = 128,
        prototypes: Annotated[int, Range(2, 65536)] = 512,
        pairs: Pairs = 1024,
        temperature: Temperature = 0.1,
        teacher_temperature: Temperature = 0.05,
        radius: Radius = 0.0,
        iterations: Annotated[int, Range(1, 1000)] = 3,
        level: Coarse = 0,
    ) -> None:
        super().__init__()
        if level and not radius:
            raise ConfigError(f"level={level}: the centres of two views differ; give radius, how far apart they may be")
        self.dim, self.prototypes, self.pairs, self.radius = dim, prototypes, pairs, radius
        self.temperature, self.teacher_temperature, self.iterations = temperature, teacher_temperature, iterations
        self.level = level
        draw = generator("prototypes", prototypes, dim)
        self.weight = nn.Parameter(torch.randn(prototypes, dim, generator=draw))

    def loss(self, views: list[Tensor], targets: list[Tensor]) -> tuple[Tensor, Terms]:
        """The loss, and the perplexity of the teacher's mean assignment: how many prototypes are in use."""
        weight = F.normalize(self.weight, dim=1).to(views[0].dtype)
        logits = [F.normalize(view, dim=1) @ weight.T for view in views]
        cosines = [F.normalize(target, dim=1) @ weight.detach().T for target in targets]
        assigned = [sinkhorn(each / self.teacher_temperature, self.iterations) for each in cosines]
        pairs = list(permutations(range(len(views)), 2))
        losses = [assignment_loss(logits[i], assigned[j], self.temperature) for i, j in pairs]
        sharp = [F.softmax(each / self.teacher_temperature, dim=1).mean(0) for each in cosines]
        used = torch.stack([-(p * p.clamp(min=1e-12).log()).sum() for p in sharp]).mean().exp()
        return torch.stack(losses).mean(), {"prototypes_used": used}

    def extra_repr(self) -> str:
        """The arguments."""
        names = ("dim", "prototypes", "pairs", "temperature", "teacher_temperature", "radius", "iterations", "level")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)
