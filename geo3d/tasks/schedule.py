"""The fraction of the run that is done, and the learning rate as a function of it."""

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer

MIDDLE = 0.5
"""The learning rate of a step is that of the schedule at its middle, so that not even the first step has rate 0."""


def elapsed_fraction(trainer: pl.Trainer, within: float = 0.0) -> float:
    """The fraction of the run that is done, from 0 to 1: of its steps or of ``max_time``, whichever is larger.

    Args:
        trainer: The running trainer.
        within: The fraction of the next step that counts as done.
    """
    fractions = [0.0]
    steps = trainer.estimated_stepping_batches
    if math.isfinite(steps) and steps > 0:
        fractions.append((trainer.global_step + within) / steps)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Timer) and callback.time_remaining() is not None:
            done, left = callback.time_elapsed(), callback.time_remaining() or 0.0
            fractions.append(done / max(done + left, 1e-9))
    return min(max(fractions), 1.0)


def warmup_cosine(fraction: float, warmup: float) -> float:
    """A factor that rises linearly from 0 to 1 while ``fraction < warmup`` and then falls to 0 along a cosine.

    Example:
        >>> [round(warmup_cosine(fraction, 0.5), 3) for fraction in (0.0, 0.25, 0.5, 0.75, 1.0)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if fraction < warmup:
        return fraction / warmup
    return 0.5 * (1 + math.cos(math.pi * (fraction - warmup) / max(1 - warmup, 1e-9)))


def set_learning_rates(optimizer: Any, factor: float) -> None:
    """Scale every parameter group's learning rate to ``factor`` times its ``initial_lr``."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def decayed(module: Any, weight_decay: float, lr: float) -> list[dict[str, Any]]:
    """Parameter groups of a module: weight decay on matrices only, none on norms and biases.

    Parameters with an attribute ``lr_factor``, such as learned thresholds, form separate groups. Their learning rate is
    multiplied by the factor, and they have no weight decay.
    """
    matrices: list[Any] = []
    others: list[Any] = []
    own: dict[float, list[Any]] = {}
    for p in module.parameters():
        if p.requires_grad:
            factor = getattr(p, "lr_factor", None)
            (own.setdefault(factor, []) if factor is not None else matrices if p.ndim > 1 else others).append(p)
    groups: list[dict[str, Any]] = [{"params": matrices, "weight_decay": weight_decay}, {"params": others}]
    groups = [{"weight_decay": 0.0, "lr": lr, "initial_lr": lr} | group for group in groups]
    for factor, parameters in own.items():
        groups.append({"params": parameters, "weight_decay": 0.0, "lr": lr * factor, "initial_lr": lr * factor})
    return groups
