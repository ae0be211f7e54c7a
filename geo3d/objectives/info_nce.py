"""NT-Xent, the contrastive loss of SimCLR (arXiv 2002.05709): find the other view of a cloud among all views."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from geo3d.checks import checked
from geo3d.distributed import gather
from geo3d.objectives.objective import Objective, Temperature, Terms


def positive_similarity(views: Sequence[Tensor]) -> Tensor:
    """The mean cosine () between two views of the same cloud, over clouds and pairs of views."""
    z = F.normalize(torch.stack(list(views)), dim=-1)  # (V, B, D)
    # |sum of z_v|^2 - sum of |z_v|^2 is the sum of the cosines over all ordered pairs of views
    pairs = z.sum(0).square().sum(-1) - z.square().sum((0, 2))
    return pairs.mean() / (len(views) * (len(views) - 1))


def info_nce(views: Sequence[Tensor], temperature: float = 0.1) -> Tensor:
    """The loss () = mean over ordered pairs (a, p) of views of one cloud of ``-log(e(a, p) / sum of e(a, c))``.

    e(a, c) = exp(cosine(a, c) / temperature), and the candidates c are the V B - 1 embeddings other than a. With more
    than two views, the other positives of a are also candidates.

    Args:
        views: V embeddings (B, D), V at least 2.
        temperature: Divides the cosines; a small value weights only the hardest candidates.

    Example:
        >>> z = torch.eye(3)
        >>> round(float(info_nce([z, z], temperature=1.0)), 4)  # log(e + 4) - 1
        0.9048
    """
    z = F.normalize(torch.cat(list(views)), dim=-1)
    similarity = z @ z.T / temperature  # (VB, VB)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    candidates = similarity.masked_fill(itself, float("-inf")).logsumexp(1)
    return candidates.mean() - positive_similarity(views) / temperature


class InfoNCE(Objective):
    """SimCLR's objective; the clouds of all processes are candidates. See :func:`info_nce`.

    Args:
        temperature: Divides the cosines.
    """

    @checked
    def __init__(self, temperature: Temperature = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def loss(self, views: list[Tensor], targets: list[Tensor]) -> tuple[Tensor, Terms]:
        """The loss and the mean cosine of positive pairs."""
        views = [gather(v) for v in views]
        return info_nce(views, self.temperature), {"positive_similarity": positive_similarity(views)}

    def extra_repr(self) -> str:
        """The arguments."""
        return f"temperature={self.temperature}"
