"""How far a network is from one that it imitates: distances of features, divergence of logits."""

from typing import Any

from torch import Tensor
from torch.nn import functional


def scaled_distance(cloud: Tensor, target: Tensor, unit: Tensor) -> Tensor:
    """The mean () of ``((cloud - target) / unit)^2``, with one unit a channel.

    A cosine would not do: one head reads both, so they must have the same size. Divided by the spread over the batch,
    so that large channels do not dominate.

    Args:
        cloud: (B, ..., C) features.
        target: Those to be imitated.
        unit: (..., C), above 0.
    """
    return ((cloud - target) / unit).square().mean()


def divergence(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Any:
    """The Kullback-Leibler divergence () of softened probabilities, times T^2 (arXiv 1503.02531).

    Args:
        logits: (B, K).
        target: (B, K) logits to be imitated.
        temperature: T.
    """
    if temperature != 1.0:
        logits, target = logits / temperature, target / temperature
    found, wanted = functional.log_softmax(logits, 1), functional.log_softmax(target, 1)
    return functional.kl_div(found, wanted, log_target=True, reduction="batchmean") * temperature**2
