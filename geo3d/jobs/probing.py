"""The job that probes frozen features, and compares them with an untrained floor and a supervised ceiling."""

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

import geo3d
from geo3d.checkpoint import Checkpoint, open_checkpoint
from geo3d.checks import Length, OneOf, Range, Seed, checked
from geo3d.errors import ConfigError
from geo3d.jobs.common import fresh_encoder
from geo3d.jobs.finetuning import finetune
from geo3d.jobs.point_probing import fresh_rows, point_figures, point_rows
from geo3d.jobs.run import finish_run, is_finished, run_folder
from geo3d.probes import Protocol, compare, evaluate, few_label_accuracy, few_shot_accuracy, knn_accuracy
from geo3d.probes import protocol as protocol_named
from geo3d.show.curves import plot_bars
from geo3d.show.table import render
from geo3d.tasks.classify import Classify
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.extract import extract, recalibrate
from geo3d.tasks.segment import Segment

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CALIBRATION_CLOUDS = 1024  # training clouds over which the untrained encoder's running statistics are averaged

Split = tuple[Tensor, Tensor]
"""(n, D) features and (n,) labels."""


@checked
def probe(
    checkpoint: str | Path | Annotated[Sequence[str | Path], Length(1, 1000)],
    data: DataModule,
    *,
    out: str | Path,
    protocol: str = "strict",
    seeds: Annotated[int, Range(1, 1000)] = 3,
    shots: Annotated[int, Range(0, 1_000_000)] = 5,
    draws: Annotated[int, Range(1, 1000)] = 10,
    episodes: Sequence[Annotated[Sequence[Annotated[int, Range(1, 100_000)]], Length(2, 2)]] = (),
    ceiling: bool | Annotated[int, Range(0, 1000)] = False,
    seed: Seed = 0,
    target: Annotated[str, OneOf("cloud", "point")] | None = None,
    trainer: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Accuracies of a pretrained encoder (result) beside a floor and a ceiling: means and stds over seeds.

    The floor is the same architecture with fresh weights and running statistics taken from the training clouds. The
    ceiling is the same architecture trained with all labels in the same poses, for as many passes over clouds as
    pretraining made. All three are probed in the same way. The test split is used for scoring alone.

    Features of points get a linear probe, scored by mIoU over all points of the test clouds; where clouds have
    ``instance``, also how well they tell touching objects apart (``geo3d.probes.objects``). The options ``protocol``,
    ``shots``, ``draws`` and ``episodes`` are for features of clouds.

    Args:
        checkpoint: A saved encoder, or several from runs that differ in their seed alone.
        data: Labelled clouds, in the poses that ``rotation`` names.
        out: Run folder.
        protocol: A name from ``probes.PROTOCOLS``.
        seeds: Number of repetitions; each draws its own points, poses, folds and untrained encoder, and takes the next
            checkpoint if there are several.
        shots: Labelled clouds per class for the accuracy with few labels; 0 leaves it out.
        draws: Number of draws of these labelled clouds in each repetition.
        episodes: Pairs (way, shot) for additional few-shot episodes, for example ``[[5, 10], [5, 20]]``.
        ceiling: Also train and probe the ceiling: true in every repetition, N in the first N; each trained encoder is
            kept beside its checkpoint and used again.
        seed: Key of every random draw.
        target: Which features are probed, those of the ``cloud`` or the ``point``; by default those of clouds if these
            have classes.
        trainer: Keywords of ``tasks.trainer.make_trainer`` for the ceiling's training, except its length.

    Raises:
        ConfigError: If the checkpoints differ in their architecture, or ``out`` holds another run.
        CheckpointError: If a checkpoint is missing or damaged.
        CloudError: If the data has no labels, or too few for ``shots`` or ``episodes``.
    """
    chosen = protocol_named(protocol)
    paths = [checkpoint] if isinstance(checkpoint, str | Path) else list(checkpoint)
    opened = [open_checkpoint(path) for path in paths]
    cards = [each.card for each in opened]
    if any((card["class"], card["keywords"]) != (cards[0]["class"], cards[0]["keywords"]) for card in cards):
        raise ConfigError("checkpoint: expected checkpoints of one architecture, found several; probe them one by one")
    if target == "point" or (target is None and "y" not in data.targets and "point_y" in data.targets):
        return _probe_points(opened, data, out, seeds, ceiling, seed, trainer or {})
    _try_labels(data, shots, episodes)
    for note in _notes(chosen, data, cards[0], seeds):
        warnings.warn(note, stacklevel=2)
    settings = {"checkpoints": [card["sha256"] for card in cards], "protocol": protocol, "seeds": seeds, "seed": seed}
    settings |= {"shots": shots, "draws": draws, "episodes": [list(pair) for pair in episodes]}
    with run_folder(out, data.evaluation_manifest(), settings) as out:
        scores: dict[str, dict[str, list[float]]] = {}
        details: dict[str, list[dict[str, Any]]] = {}
        for repetition in range(seeds):
            here = data.reseeded(seed + repetition)
            here_opened = opened[repetition % len(opened)]
            card = here_opened.card
            initial = card.get("seed", seed) if len(paths) > 1 else seed + repetition
            contestants = {"floor": calibrated(fresh_encoder(card, initial), here), "result": here_opened.encoder}
            if ceiling is True or repetition < ceiling:
                contestants["ceiling"] = ceiling_encoder(here_opened, data, seed + repetition, trainer or {})
            for name, encoder in contestants.items():
                train, test = (_features(encoder, here, split) for split in ("train", "test"))
                record = evaluate(chosen, *train, *test, seed=seed + repetition)
                if record["cross_validation"]:  # the keys of JSON objects are strings
                    record["cross_validation"] = {str(C): values for C, values in record["cross_validation"].items()}
                details.setdefault(name, []).append(record)
                figures = {"all labels": record["accuracy"], "kNN": knn_accuracy(*train, *test)}
                if shots:
                    values = few_label_accuracy(*train, *test, shots=shots, draws=draws, seed=seed + repetition)
                    figures[f"{shots} labels a class"] = sum(values) / len(values)
                for way, shot in episodes:
                    values = few_shot_accuracy(*train, *test, way=way, shot=shot, seed=seed + repetition)
                    figures[f"{way}-way {shot}-shot"] = sum(values) / len(values)
                for figure, value in figures.items():
                    scores.setdefault(figure, {}).setdefault(name, []).append(value)
        return _report(out, data, chosen.name, scores, details, len(paths))


def _probe_points(
    opened: Sequence[Checkpoint],
    data: DataModule,
    out: str | Path,
    seeds: int,
    ceiling: bool | int,
    seed: int,
    trainer: dict[str, Any],
) -> dict[str, Any]:
    """The probe of features of points."""
    settings = {
        "checkpoints": [each.card["sha256"] for each in opened],
        "target": "point",
        "seeds": seeds,
        "seed": seed,
    }
    with run_folder(out, data.evaluation_manifest(), settings) as out:
        scores: dict[str, dict[str, list[float]]] = {}
        for repetition in range(seeds):
            here, one = data.reseeded(seed + repetition), opened[repetition % len(opened)]
            initial = one.card.get("seed", seed) if len(opened) > 1 else seed + repetition
            fresh = fresh_rows(one, fresh_encoder(one.card, initial), initial)
            recalibrate(fresh, here.calibration(CALIBRATION_CLOUDS), DEVICE)
            contestants = {"floor": fresh, "result": point_rows(one)}
            if ceiling is True or repetition < ceiling:
                contestants["ceiling"] = point_rows(
                    ceiling_checkpoint(one, data, seed + repetition, trainer, "point_y")
                )
            for name, rows in contestants.items():
                for figure, value in point_figures(rows, here, seed + repetition, DEVICE).items():
                    scores.setdefault(figure, {}).setdefault(name, []).append(value)
        table = {name: compare(s["floor"], s["result"], s.get("ceiling")) for name, s in scores.items()}
        metrics = {**table["linear mIoU"], "points": "all", "num_points": data.num_points, "rotation": data.rotation}
        metrics |= {"target": "point", "checkpoints": len(opened), "figures": table}
        plot_bars(table, out / "probe.png", title="features of points (%)")
        finish_run(out, metrics)
        print(
            render(table, f"probe of points, {data.rotation} poses, {data.num_points} points at a time", unit="percent")
        )
        return metrics


def calibrated(encoder: nn.Module, data: DataModule) -> nn.Module:
    """The encoder with running statistics averaged over training clouds, without which the floor would be unfair."""
    return recalibrate(encoder, data.calibration(CALIBRATION_CLOUDS), DEVICE)


def ceiling_encoder(opened: Checkpoint, data: DataModule, seed: int, trainer: dict[str, Any]) -> nn.Module:
    """The encoder of :func:`ceiling_checkpoint` for the classes of clouds."""
    return ceiling_checkpoint(opened, data, seed, trainer, "y").encoder


def ceiling_checkpoint(
    opened: Checkpoint, data: DataModule, seed: int, trainer: dict[str, Any], target: str
) -> Checkpoint:
    """The checkpoint's architecture trained with all labels, on as many points as in pretraining, in the probe's poses.

    It makes as many passes over clouds as pretraining did, which passes each cloud twice, as two views. The trained
    encoder is kept in ``ceiling/`` beside the checkpoint, under a hash of everything that it depends on.

    Raises:
        ConfigError: If the checkpoint's card does not say how many clouds pretraining saw.
    """
    card = opened.card
    clouds = card.get("metrics", {}).get("clouds", 0)
    if clouds == 0:
        raise ConfigError(
            f"{opened.folder}: the card does not say how long the encoder was pretrained, on which the ceiling's "
            "training depends; give ceiling=false"
        )
    supervised = data.reseeded(seed).of("supervised", target)
    supervised.label_fraction = 1.0
    supervised.num_points = card.get("input", {}).get("num_points", data.num_points)
    epochs = max(1, round(2 * clouds / len(supervised.training)))
    depends_on = [card["class"], card["keywords"], supervised.manifest(), data.batch_size, epochs, seed, trainer]
    key = json.dumps([*depends_on, geo3d.__version__], sort_keys=True)
    folder = opened.folder.parent / "ceiling" / hashlib.sha256(key.encode()).hexdigest()[:16]
    if not is_finished(folder):
        length = {"max_epochs": epochs, "max_steps": None, "max_time": None}
        task = Segment if target == "point_y" else Classify
        encoder = fresh_encoder(card, seed)
        finetune(supervised, out=folder, task=task, encoder=encoder, seed=seed, trainer=trainer | length)
    return open_checkpoint(folder)


def _try_labels(data: DataModule, shots: int, episodes: Sequence[Sequence[int]]) -> None:
    """Check, before anything is trained, that there are enough labels for ``shots`` and ``episodes``."""
    (x, y), (tx, ty) = ((data.labels(split)[:, None].float(), data.labels(split)) for split in ("train", "test"))
    if shots:
        few_label_accuracy(x, y, tx, ty, shots=shots, draws=1)
    for way, shot in episodes:
        few_shot_accuracy(x, y, tx, ty, way=way, shot=shot, folds=1)


def _notes(protocol: Protocol, data: DataModule, card: dict[str, Any], seeds: int) -> list[str]:
    """Sentences on where the probe differs from its protocol, or from how the encoder was trained."""
    notes, points = [], card.get("input", {}).get("num_points", data.num_points)
    if points != data.num_points:
        notes.append(f"the encoder was trained on {points} points and is probed on data.num_points={data.num_points}")
    if protocol.points is not None and protocol.points != data.num_points:
        notes.append(f"protocol={protocol.name} asks for {protocol.points} points; data.num_points={data.num_points}")
    if seeds < protocol.seeds:
        notes.append(f"protocol={protocol.name} asks for {protocol.seeds} seeds; seeds={seeds}")
    return notes


def _features(encoder: nn.Module, data: DataModule, split: str) -> Split:
    return extract(encoder, data.loader(split), DEVICE), data.labels(split)


def _report(
    out: Path,
    data: DataModule,
    protocol: str,
    scores: dict[str, dict[str, list[float]]],
    details: dict[str, list[dict[str, Any]]],
    checkpoints: int,
) -> dict[str, Any]:
    rows = {name: compare(s["floor"], s["result"], s.get("ceiling")) for name, s in scores.items()}
    metrics = {
        **rows["all labels"],
        "accuracy": scores["all labels"]["result"],
        "protocol": protocol,
        "rotation": data.rotation,
        "num_points": data.num_points,
        "checkpoints": checkpoints,
        "figures": rows,
        "details": details,
    }
    plot_bars(rows, out / "probe.png")
    finish_run(out, metrics)
    print(render(rows, f"{protocol} probe, {data.rotation} poses, {data.num_points} points"))
    return metrics
