"""Momentum contrast (arXiv 1911.05722): find the teacher's embedding of a cloud among those of earlier clouds."""

from itertools import permutations
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from geo3d.checks import Range, Size, checked
from geo3d.distributed import gather
from geo3d.errors import ConfigError
from geo3d.objectives.objective import Objective, Temperature, Terms


def moco(query: Tensor, key: Tensor, queue: Tensor, temperature: float = 0.1, filled: Tensor | None = None) -> Tensor:
    """The loss (): mean cross entropy, with cosines as logits, of finding each query's own key among the queued keys.

    Args:
        query: (B, D) embeddings of one view.
        key: (B, D) the teacher's embeddings of another view of the same clouds.
        queue: (K, D) earlier keys, normalised to length 1.
        temperature: Divides the cosines.
        filled: (K,) bool, the rows of the queue to use; by default all.
    """
    query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
    own = (query * key).sum(-1, keepdim=True)
    others = query @ queue.T
    if filled is not None:
        others = others.masked_fill(~filled, float("-inf"))
    logits = torch.cat([own, others], dim=1) / temperature
    return (logits.logsumexp(1) - logits[:, 0]).mean()


class MoCo(Objective):
    """Momentum contrast, averaged over the ordered pairs of views. See :func:`moco`.

    The queue starts empty and the loss uses only its filled rows, so the very first loss is 0. In training mode, after
    the loss is computed, the keys of all views and all processes replace the oldest keys.

    Args:
        dim: D, the size of the embeddings.
        queue_size: How many keys are kept.
        temperature: Divides the cosines.
    """

    teacher = True
    queue: Tensor
    pointer: Tensor
    count: Tensor

    @checked
    def __init__(
        self, dim: Size = 128, queue_size: Annotated[int, Range(1, 2**18)] = 4096, temperature: Temperature = 0.1
    ) -> None:
        super().__init__()
        self.dim, self.queue_size, self.temperature = dim, queue_size, temperature
        self.register_buffer("queue", torch.zeros(self.queue_size, self.dim))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @property
    def filled(self) -> Tensor:
        """(queue_size,) bool: which rows of the queue hold a key."""
        return torch.arange(self.queue_size, device=self.queue.device) < self.count

    def loss(self, views: list[Tensor], targets: list[Tensor]) -> tuple[Tensor, Terms]:
        """The loss, the mean cosine of queries with their keys, and the filled fraction of the queue."""
        if views[0].shape[1] != self.dim:
            raise ConfigError(f"MoCo was made with dim={self.dim}; found embeddings of size {views[0].shape[1]}")
        # a copy: the backward pass still needs the queue after new keys have overwritten it
        queue, filled = self.queue.to(views[0].dtype, copy=True), self.filled
        pairs = list(permutations(range(len(views)), 2))
        losses = [moco(views[i], targets[j], queue, self.temperature, filled) for i, j in pairs]
        cosines = [F.cosine_similarity(views[i], targets[j]).mean() for i, j in pairs]
        if self.training:
            self.enqueue(torch.cat([gather(t) for t in targets]))
        terms = {"positive_similarity": torch.stack(cosines).mean(), "queue_filled": filled.float().mean()}
        return torch.stack(losses).mean(), terms

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replace the oldest keys of the queue by ``keys`` (n, D); of more than ``queue_size`` keys, keep the last."""
        keys = F.normalize(keys[-self.queue_size :], dim=-1).to(self.queue.dtype)
        slots = (self.pointer + torch.arange(len(keys), device=keys.device)) % self.queue_size
        self.queue.index_copy_(0, slots, keys)
        self.pointer.add_(len(keys)).remainder_(self.queue_size)
        self.count.add_(len(keys)).clamp_(max=self.queue_size)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"dim={self.dim}, queue_size={self.queue_size}, temperature={self.temperature}"
