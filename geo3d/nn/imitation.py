"""Distillation losses: how far the features or logits of a student are from those of a teacher."""

from typing import Any

from torch import Tensor
from torch.nn import functional


def scaled_distance(cloud: Tensor, target: Tensor, unit: Tensor) -> Tensor:
    """() mean of ``((cloud - target) / unit)^2``, with one unit per channel.

    MSE, not cosine: one head reads both, so the features need equal scale. With the std over the batch as the unit,
    large channels do not dominate.

    Args:
        cloud: (B, ..., C) features.
        target: (B, ..., C) the teacher's features.
        unit: (..., C), above 0.
    """
    return ((cloud - target) / unit).square().mean()


def divergence(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Any:
    """() Kullback-Leibler divergence of softened probabilities, times T^2 (arXiv 1503.02531).

    Args:
        logits: (B, K).
        target: (B, K) logits of the teacher.
        temperature: T.
    """
    if temperature != 1.0:
        logits, target = logits / temperature, target / temperature
    student, teacher = functional.log_softmax(logits, 1), functional.log_softmax(target, 1)
    return functional.kl_div(student, teacher, log_target=True, reduction="batchmean") * temperature**2
