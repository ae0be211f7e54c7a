"""What several jobs need: fresh encoders, and the numbers of a finished training run."""

from typing import Any

import pytorch_lightning as pl
from torch import nn

from geo3d.checkpoint import build_encoder, keywords_of
from geo3d.seeds import seeded
from geo3d.tasks.callbacks import History


def fresh_encoder(card: dict[str, Any], seed: int) -> nn.Module:
    """The card's architecture with the initial weights that ``seed`` gives, as pretraining started from."""
    with seeded(seed, "encoder"):
        return build_encoder(card)


def card_of(encoder: nn.Module) -> dict[str, Any]:
    """The part of a card that is needed to build such an encoder."""
    return {"class": type(encoder).__name__, "keywords": keywords_of(encoder)}


def scalars(module: Any) -> dict[str, Any]:
    """The class of an objective or invariance and those of its settings that are plain numbers or words."""
    plain = {k: v for k, v in vars(module).items() if isinstance(v, bool | int | float | str) and k != "training"}
    return {"class": type(module).__name__} | {k: v for k, v in sorted(plain.items()) if not k.startswith("_")}


def history(runner: pl.Trainer) -> list[dict[str, float]]:
    """The rows of ``metrics.csv`` so far."""
    return next(c.rows for c in runner.callbacks if isinstance(c, History))  # type: ignore[attr-defined]


def training_metrics(runner: pl.Trainer) -> dict[str, Any]:
    """Epochs, seconds, and the means of the last epoch."""
    rows = history(runner)
    last = {name: value for name, value in rows[-1].items() if name != "epoch_seconds"} if rows else {}
    return {"epochs": len(rows), "seconds": sum(row["epoch_seconds"] for row in rows), **last}
