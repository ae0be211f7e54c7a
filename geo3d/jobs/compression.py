"""The job that compresses a trained encoder by a recipe, and trains it to reproduce the original features."""

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from geo3d import compress as forms
from geo3d.checkpoint import Checkpoint, description, load_encoder, open_checkpoint, save_encoder
from geo3d.checks import Decay, Range, Rate, Seed, Share, checked
from geo3d.data.targets import Classes
from geo3d.errors import ConfigError
from geo3d.heads import Classifier
from geo3d.invariance.views import Views
from geo3d.io.files import replacing, write_json
from geo3d.jobs import network_compression as whole
from geo3d.jobs.common import arithmetic, augmentation, finalized, head_for, training_metrics
from geo3d.jobs.run import finish_run, is_finished, reopen_run, run_folder, start_run, stored
from geo3d.jobs.settings import score_settings
from geo3d.network import PointNetwork
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.distill import Distill
from geo3d.tasks.extract import extract
from geo3d.tasks.trainer import fit, make_trainer

DEFAULT_STEPS = 300
Steps = Annotated[int, Range(1, 1_000_000_000)]
Draws = Annotated[int, Range(1, 1000)]
ENDS = ("max_epochs", "max_steps", "max_time")
ABOUT = ("task", "classes", "groups", "categories")
"""What the card of a segmentation says of its classes, which compression does not change."""
LOOKED_AT = 64  # about how many training clouds give the second moments of inputs, and quantisers' steps and offsets


@checked
def compress(
    checkpoint: str | Path,
    data: DataModule,
    recipe: Mapping[str, Any],
    *,
    out: str | Path,
    labels: Annotated[float, Range(0, 1000)] = 0.0,
    shaping_steps: Steps = 200,
    points: Annotated[int, Range(2, 10_000_000)] | None = None,
    draws: Draws = 5,
    seed: Seed = 0,
    lr: Rate = 1e-3,
    weight_decay: Decay = 1e-4,
    warmup: Share = 0.05,
    trainer: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Metrics of a compressed encoder, which is saved in ``out/encoder`` with its classifier head if it has one.

    Of a segmentation the whole network is compressed, see :mod:`geo3d.jobs.network_compression`: the recipe's steps
    work on the encoder, ``quantize`` on decoder and head too, and all three learn to reproduce the original logits.

    The compressed encoder (the student) learns to reproduce the cloud features of the original one (the teacher) and,
    with a head, its class probabilities, on clouds in the poses of ``data.rotation``. It needs no labels. If the recipe
    has a regularised structure or soft pruning thresholds, those are trained first, in ``out/shape``; the remaining
    steps are applied to the layers that result.

    Args:
        checkpoint: A saved encoder.
        data: The clouds.
        recipe: The steps with their keywords: see ``geo3d.compress.parse_recipe``.
        out: Run folder.
        labels: Weight of the cross-entropy against the training labels, which is added to the distillation loss; above
            0 the checkpoint needs a head, and 0 uses no labels.
        shaping_steps: Training steps for a regularised structure or soft thresholds, if the recipe has them.
        points: Points of a cloud that the compressed encoder sees; by default those of the original one,
            ``data.num_points``.
        draws: Accuracy is averaged over this many draws of points and poses of the test clouds.
        seed: Key of every random draw except those of the data, which depend on ``data.seed``.
        lr: Peak learning rate.
        weight_decay: Weight decay of the weight matrices.
        warmup: Fraction of the run in which the learning rate rises.
        trainer: Keywords of ``tasks.trainer.make_trainer``; without ``max_epochs``, ``max_steps`` or ``max_time`` the
            run takes ``DEFAULT_STEPS`` (300) steps.

    Raises:
        ConfigError: If the recipe has a mistake, the encoder is already compressed, ``labels`` is above 0 without a
            head, ``points`` is above ``data.num_points``, a step takes channels that a decoder reads, the data has
            other classes than a segmentation, or ``out`` holds another run.
        CheckpointError: If there is no checkpoint, or it is damaged.
    """
    opened = open_checkpoint(checkpoint)
    teacher, card = opened.encoder, opened.card
    network = opened.network
    if opened.decoder is not None and network is None:
        warnings.warn(f"{checkpoint}: its decoder is left behind; the new checkpoint has none", stacklevel=2)
    head = opened.head if isinstance(opened.head, Classifier) else None
    if opened.head is not None and head is None and network is None:
        kind = type(opened.head).__name__
        if labels:
            raise ConfigError(f"labels: only a Classifier can be trained with labels, not a {kind}; give labels=0")
        warnings.warn(f"{checkpoint}: its head, a {kind}, is left behind; the new checkpoint has none", stacklevel=2)
    if forms.records(teacher):
        raise ConfigError(f"{checkpoint}: is compressed already ({_done(teacher)}); give the uncompressed checkpoint")
    if labels and head is None and network is None:
        raise ConfigError("labels: the checkpoint has no head to train with labels; give labels=0, or fine-tune first")
    steps = forms.parse_recipe(recipe)
    trainer = dict(trainer or {})
    if not any(trainer.get(end) for end in ENDS):
        trainer["max_steps"] = DEFAULT_STEPS
    keep = {"seed": seed, "lr": lr, "weight_decay": weight_decay, "warmup": warmup}
    settings = {"checkpoint": card["sha256"], "recipe": steps, "labels": labels, "shaping_steps": shaping_steps}
    if points is not None and points > (data.num_points or points):
        raise ConfigError(f"points={points}: expected at most data.num_points={data.num_points}; give fewer points")
    settings |= {} if points is None else {"points": points}
    target = None
    if network is not None:
        whole.check_recipe(steps, points)
        target = whole.check_classes(card, data)
    learns = "y" if network is None else "point_y"
    data = data.of("supervised", learns) if labels else data.of("pretrain")
    settings |= keep | {"batch": data.batch_size, "draws": draws} | {end: trainer.get(end) for end in ENDS}
    settings |= arithmetic(trainer)
    with run_folder(out, data.manifest(), settings, reopen=False) as out:
        if is_finished(out):
            warnings.warn(f"{out} holds a finished run; nothing was left to do", stacklevel=2)
            return stored(out / "metrics.json")
        reopen_run(out)
        shaping = {key: value for key, value in trainer.items() if key not in ENDS} | {"max_steps": shaping_steps}
        if network is not None:
            ignore = -1 if target is None or target.ignore is None else target.ignore
            training = {"data": data, "labels": labels, "ignore": ignore, "shaping": shaping, **keep}
            return _of_network(opened, network, recipe, target, draws, out, trainer, training)
        training = {"data": data, "points": points, "teacher": teacher, "head": head, "labels": labels, **keep}
        student = _shaped(teacher, recipe, out, shaping, training)
        student, student_head = _trained(student, recipe, out, trainer, training)
        sees = {"num_points": data.num_points} if points is None else {"num_points": points}
        entries = {"input": card.get("input", {}) | sees, "seed": seed, "recipe": steps, "data": data.manifest_hash()}
        if isinstance(student, forms.Adaptive):
            entries["settings"] = score_settings(student, student_head, data, "train")
        save_encoder(student, out / "encoder", head=student_head, **entries)
        metrics = _measured(teacher, head, student, student_head, data, points, draws, out)
        if isinstance(student, forms.Adaptive) and data.has("test"):
            metrics["settings"] = score_settings(student, student_head, data, "test")
        metrics["bytes"] = {"before": _bytes(opened.folder), "after": _bytes(out / "encoder")}
        finish_run(out, metrics)
    return metrics


def _of_network(
    opened: Checkpoint,
    network: PointNetwork,
    recipe: Mapping[str, Any],
    target: Classes | None,
    draws: int,
    out: Path,
    trainer: dict[str, Any],
    training: dict[str, Any],
) -> dict[str, Any]:
    """Metrics of a compressed segmentation network, which is saved with all that its card said of the classes."""
    data: DataModule = training["data"]
    student = whole.compressed(network, recipe, out, trainer, training)
    about = {name: opened.card[name] for name in ABOUT if name in opened.card}
    seen = opened.card.get("input", {}) | {"num_points": data.num_points}
    about |= {"input": seen, "seed": training["seed"], "recipe": forms.parse_recipe(recipe)}
    about["data"] = data.manifest_hash()
    save_encoder(student.encoder, out / "encoder", head=student.head, decoder=student.decoder, **about)
    metrics = whole.measured(network, student, data, target, draws)
    metrics["bytes"] = {"before": whole.bytes_of(opened.folder), "after": whole.bytes_of(out / "encoder")}
    finish_run(out, metrics)
    return metrics


def _done(encoder: nn.Module) -> str:
    return ", ".join(record["step"] for record in forms.records(encoder))


def _seen(training: dict[str, Any]) -> DataModule:
    """The clouds with as many points as the student sees."""
    data: DataModule = training["data"]
    return data if training["points"] is None else data.of_points(training["points"])


def _few(data: DataModule) -> Any:
    fraction = min(1.0, LOOKED_AT / len(data.dataset("train")))
    return next(iter(data.loader("train", data.stratified(fraction, "looked at"), 4 * LOOKED_AT)))


def _shaped(
    teacher: nn.Module, recipe: Mapping[str, Any], out: Path, trainer: dict[str, Any], training: dict[str, Any]
) -> nn.Module:
    """The student after the steps of ``SHAPING`` (structure and pruning), which fix the shapes of its layers."""
    shape = out / "shape"
    if is_finished(shape):
        return load_encoder(shape)
    student = forms.with_keywords(copy.deepcopy(teacher), recipe)
    structure = recipe.get("structure") or {}
    moments = None
    if "structure" in recipe and not structure.get("regularize"):
        moments = forms.input_moments(student, [_few(_seen(training))])
    student = forms.apply(student, recipe, forms.SHAPING, moments=moments)
    if forms.penalty(student) is None:
        return student
    start_run(shape, stored(out / "manifest.json"), stored(out / "settings.json") | {"stage": "shape"})
    metrics = _fit(student, head_for(student, training["head"]), shape, trainer, training)
    student = finalized(student, _seen(training))
    save_encoder(student, shape / "encoder")
    finish_run(shape, metrics)
    return load_encoder(shape)


def _trained(
    student: nn.Module, recipe: Mapping[str, Any], out: Path, trainer: dict[str, Any], training: dict[str, Any]
) -> tuple[nn.Module, Classifier | None]:
    """The student and its head after the remaining steps of the recipe and the final training."""
    student = forms.apply(student, recipe, tuple(set(forms.ORDER) - set(forms.SHAPING)))
    head = head_for(student, training["head"])
    few = _few(_seen(training))
    if "quantize" in recipe:
        forms.calibrate(student, [few])
        if head is not None:
            same = {name: value for name, value in (recipe["quantize"] or {}).items() if name != "layers"}
            head = cast(Classifier, forms.quantize(head, **same))
            with torch.no_grad():
                forms.calibrate(head, [student.eval()(few).cloud])
    _fit(student, head, out, trainer, training)
    return finalized(student, _seen(training)).eval(), None if head is None else head.eval()


def _fit(
    student: nn.Module, head: nn.Module | None, out: Path, trainer: dict[str, Any], training: dict[str, Any]
) -> dict[str, Any]:
    """Metrics of the student's training, which are also written to ``out/training.json``."""
    data: DataModule = training["data"]
    task = Distill(
        student.train(),
        training["teacher"],
        Views(augmentation(data.rotation), num_points=data.num_points, normalize=data.normalize, num_views=1),
        head=head,
        teacher_head=training["head"],
        **{key: training[key] for key in ("labels", "points", "seed", "lr", "weight_decay", "warmup")},
    )
    runner = make_trainer(out, **trainer)
    fit(runner, task, data, out)
    metrics = training_metrics(runner)
    write_json(out / "training.json", metrics)
    return metrics


def _bytes(folder: Path) -> int:
    return (folder / "encoder.safetensors").stat().st_size


@torch.no_grad()
def _measured(
    teacher: nn.Module,
    head: nn.Module | None,
    student: nn.Module,
    student_head: nn.Module | None,
    data: DataModule,
    points: int | None,
    draws: int,
    out: Path,
) -> dict[str, Any]:
    """Metrics before and after compression, on test clouds, or on training clouds if there is no test split.

    ``similarity`` is the mean cosine similarity of the features, centred on the mean of the original ones. With heads
    and a labelled test split, ``test`` holds both accuracies, their difference and its standard error over test clouds;
    ``out/test.npz`` holds, for each test cloud, the fraction of draws in which it was classified correctly.
    """
    split = "test" if data.has("test") else "train"
    alike: list[float] = []
    hits: dict[str, list[Tensor]] = {"before": [], "after": []}
    for draw in range(draws):
        here = data.reseeded(data.seed + draw)
        fewer = here if points is None else here.of_points(points)
        pairs = {"before": (teacher, head), "after": (student, student_head)}
        loaders = {"before": here.loader(split), "after": fewer.loader(split)}
        features = {name: extract(encoder, loaders[name]) for name, (encoder, _) in pairs.items()}
        left = forms.outputs_left(student)
        wanted = features["before"] if left is None else features["before"][:, left]
        middle = wanted.mean(0)
        alike.append(float(torch.cosine_similarity(wanted - middle, features["after"] - middle).mean()))
        for name, (_, classifier) in pairs.items():
            if classifier is not None and split == "test" and data.dataset("test").labels is not None:
                hits[name].append(classifier.eval()(features[name]).argmax(1) == data.labels("test"))
    metrics: dict[str, Any] = {"similarity": sum(alike) / draws, "keywords": description(student)["keywords"]}
    if hits["after"]:
        table = {name: torch.stack(each).float().mean(0) for name, each in hits.items()}
        difference = table["after"] - table["before"]
        error = float(difference.std() / len(difference) ** 0.5)
        metrics["test"] = {name: float(values.mean()) for name, values in table.items()}
        metrics["test"] |= {"difference": float(difference.mean()), "standard_error": error, "draws": draws}
        with replacing(out / "test.npz") as path, path.open("wb") as file:
            np.savez_compressed(file, before=table["before"].numpy(), after=table["after"].numpy())
    return metrics
