"""What several jobs need: fresh encoders, and the numbers of a finished training run."""

import copy
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch import nn

from geo3d import compress
from geo3d.checkpoint import build_encoder
from geo3d.compress.adaptive.statistics import recalibrate_norms
from geo3d.heads import Classifier
from geo3d.invariance import SO2, SO3, AnisotropicScale, Compose, Invariance, Translation
from geo3d.seeds import seeded
from geo3d.tasks.callbacks import History
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.extract import recalibrate

FITTED_CLOUDS = 1024  # that norms are fitted to after rounding: enough for their moments


def fresh_encoder(card: dict[str, Any], seed: int) -> nn.Module:
    """The card's architecture with the initial weights that ``seed`` gives, as pretraining started from."""
    with seeded(seed, "encoder"):
        return build_encoder(card)


def apply_recipe(encoder: nn.Module, recipe: Mapping[str, Any] | None, fresh: bool = False) -> nn.Module:
    """The encoder after the steps of a recipe, if there is one.

    Args:
        encoder: To be trained.
        recipe: See ``geo3d.compress.parse_recipe``.
        fresh: Its weights are random, and what is fitted to them shall keep their scale.
    """
    if not recipe:
        return encoder
    structure = compress.parse_recipe(recipe).get("structure")
    if fresh and structure is not None and not structure.get("regularize"):
        recipe = {**recipe, "structure": {**structure, "fresh": True}}
    return compress.apply(compress.with_keywords(encoder, recipe), recipe)


def finalized(encoder: nn.Module, data: DataModule) -> nn.Module:
    """The encoder in its final form after training; a compressed one with statistics fitted to training clouds."""
    if not compress.records(encoder):
        return encoder
    training = encoder.training
    encoder = compress.finalize(encoder)
    clouds = data.calibration(FITTED_CLOUDS)
    fitted = (
        recalibrate_norms(encoder, clouds) if isinstance(encoder, compress.Adaptive) else recalibrate(encoder, clouds)
    )
    return fitted.train(training)


def head_for(encoder: nn.Module, head: Classifier | None) -> Classifier | None:
    """A copy of the head, to be trained, that reads what a pruned encoder still says, if it says less."""
    left = compress.outputs_left(encoder)
    if head is None or left is None:
        return None if head is None else copy.deepcopy(head).requires_grad_(True)
    names = ("num_classes", "hidden", "bias", "dropout", "negative_slope", "dropout_first")
    with seeded("head_for"):  # what is drawn here is replaced below
        other = Classifier(len(left), **{name: getattr(head, name) for name in names})
    first = next(key for key in head.state_dict() if key.endswith("weight"))
    other.load_state_dict({**head.state_dict(), first: head.state_dict()[first][:, left]})
    return other.train(head.training)


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


def augmentation(rotation: str) -> Invariance:
    """What supervised training does to a cloud: the pose of the data, drawn anew, and the usual scale and shift."""
    poses: dict[str, list[Invariance]] = {"aligned": [], "z": [SO2()], "so3": [SO3()]}
    return Compose([*poses[rotation], AnisotropicScale(2 / 3, 3 / 2), Translation(0.2)])
