"""Functions that several jobs share: fresh encoders, recipes, heads, and the metrics of a training run."""

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch import nn

from geo3d import compress
from geo3d.checkpoint import build_encoder
from geo3d.compress.adaptive.statistics import recalibrate_norms
from geo3d.encoders.inputs import check_encoder
from geo3d.errors import ConfigError
from geo3d.heads import Classifier
from geo3d.invariance import SO2, SO3, AnisotropicScale, Compose, Invariance, Scale, Tilt, Translation
from geo3d.seeds import seeded
from geo3d.tasks.callbacks import History
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.extract import recalibrate
from geo3d.tasks.trainer import make_trainer

FITTED_CLOUDS = 1024  # training clouds over which a compressed encoder's running statistics are averaged anew


def fresh_encoder(card: dict[str, Any], seed: int) -> nn.Module:
    """The card's architecture with the initial weights that ``seed`` gives: those that pretraining starts from."""
    with seeded(seed, "encoder"):
        return build_encoder(card)


def apply_recipe(encoder: nn.Module, recipe: Mapping[str, Any] | None, fresh: bool = False) -> nn.Module:
    """The encoder after the steps of the recipe; without a recipe, the encoder itself.

    Args:
        encoder: The encoder to be trained.
        recipe: The steps, see ``geo3d.compress.parse_recipe``; None or empty for no steps.
        fresh: Whether the encoder's weights are random; a structure fitted to them then keeps their scale.

    Raises:
        ConfigError: If the class lacks what every encoder has, or the recipe does not fit.
    """
    check_encoder(encoder)
    if not recipe:
        return encoder
    structure = compress.parse_recipe(recipe).get("structure")
    if fresh and structure is not None and not structure.get("regularize"):
        recipe = {**recipe, "structure": {**structure, "fresh": True}}
    return compress.apply(compress.with_keywords(encoder, recipe), recipe)


def finalized(encoder: nn.Module, data: DataModule) -> nn.Module:
    """The encoder in its final form after training.

    If it was compressed, its steps are finalized and its running statistics averaged anew over training clouds.
    """
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
    """A trainable copy of the head that reads the encoder's features; None without a head.

    If pruning removed cloud features, the first layer of the copy keeps the columns of the remaining ones.
    """
    left = compress.outputs_left(encoder)
    if head is None or left is None:
        return None if head is None else copy.deepcopy(head).requires_grad_(True)
    names = ("num_classes", "hidden", "bias", "dropout", "negative_slope", "dropout_first")
    with seeded("head_for"):  # so that the random state stays as it is; the weights drawn here are replaced below
        other = Classifier(len(left), **{name: getattr(head, name) for name in names})
    first = next(key for key in head.state_dict() if key.endswith("weight"))
    other.load_state_dict({**head.state_dict(), first: head.state_dict()[first][:, left]})
    return other.train(head.training)


def scalars(module: Any) -> dict[str, Any]:
    """Class name of an objective or decoder, and its public attributes that are numbers, strings or lists of them."""
    known = {k: v for k, v in vars(module).items() if _is_plain(v) and k != "training"}
    return {"class": type(module).__name__} | {k: v for k, v in sorted(known.items()) if not k.startswith("_")}


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str)


def arithmetic(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """The trainer's keywords that change what a run computes, where they differ from their defaults."""
    defaults = inspect.signature(make_trainer).parameters
    usual = {name: defaults[name].default for name in ("precision", "gradient_clip_val")}
    return {name: trainer[name] for name, value in usual.items() if trainer.get(name, value) != value}


def check_channels_stay(encoder: nn.Module, decoder: nn.Module | None, head: nn.Module | None = None) -> None:
    """Check that compression leaves the encoder all channels that a decoder, or a head of joints, reads.

    Raises:
        ConfigError: If pruning will take channels out of it at the end of the training.
    """
    reader = "decoder" if decoder is not None else "head" if hasattr(head, "anchor_channels") else None
    coming = (r for r in compress.records(encoder) if r["step"] == "prune" and not r["finalized"])
    if reader and any(r["group"] != "weight" for r in coming):
        raise ConfigError(
            f"recipe.prune: takes channels out of the encoder at the end, which the {reader} reads; give "
            "recipe.prune.group=weight" + (", or head=joint_regressor" if reader == "head" else "")
        )


def history(runner: pl.Trainer) -> list[dict[str, float]]:
    """The rows of ``metrics.csv`` so far."""
    return next(c.rows for c in runner.callbacks if isinstance(c, History))  # type: ignore[attr-defined]


def training_metrics(runner: pl.Trainer) -> dict[str, Any]:
    """Number of epochs, seconds in all, and the metrics of the last epoch."""
    rows = history(runner)
    last = {name: value for name, value in rows[-1].items() if name != "epoch_seconds"} if rows else {}
    return {"epochs": len(rows), "seconds": sum(row["epoch_seconds"] for row in rows), **last}


def augmentation(rotation: str, learns: str = "y") -> Invariance:
    """The augmentation of supervised training: a random pose, an anisotropic scale and a translation.

    For joints, whose distances should stay those of a hand: a random pose, a tilt, a scale and a translation.

    Args:
        rotation: The pose of the data: ``aligned`` (no rotation), ``z`` or ``so3``.
        learns: The target.
    """
    poses: dict[str, list[Invariance]] = {"aligned": [], "z": [SO2()], "so3": [SO3()]}
    if learns == "joints":
        return Compose([*poses[rotation], Tilt(15.0), Scale(0.85, 1.15), Translation(0.05)])
    return Compose([*poses[rotation], AnisotropicScale(2 / 3, 3 / 2), Translation(0.2)])
