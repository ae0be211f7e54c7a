"""Compression of a whole segmentation network: its encoder by a recipe, and decoder and head quantised with it."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d import compress as forms
from geo3d.bench.timing import interleaved
from geo3d.checkpoint import DECODER, HEAD, WEIGHTS, description, open_checkpoint, save_encoder
from geo3d.checks import parameters
from geo3d.cloud import layout_of
from geo3d.compress.record import records
from geo3d.data.targets import Classes
from geo3d.deploy.program.program import Program
from geo3d.errors import ConfigError
from geo3d.invariance.views import Views
from geo3d.io.files import write_json
from geo3d.jobs.common import FITTED_CLOUDS, augmentation, training_metrics
from geo3d.jobs.run import finish_run, is_finished, start_run, stored
from geo3d.network import PointNetwork, PointRows, point_logits
from geo3d.nn.linear import Linear
from geo3d.seeds import seeded
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.distill_points import DistillPoints
from geo3d.tasks.extract import recalibrate
from geo3d.tasks.segment import Segment
from geo3d.tasks.trainer import fit, make_trainer

LOOKED_AT = 65_536
"""About how many points of training clouds set the steps and offsets of quantisers."""
ROUNDS = 15
"""How often each network is timed; the median counts."""


def check_recipe(steps: Mapping[str, Any], points: int | None) -> None:
    """Check that a segmentation network can be compressed by these steps.

    Raises:
        ConfigError: If a step takes channels which the decoder reads, or the student is to see fewer points.
    """
    group = parameters(forms.prune)["group"].default
    if "prune" in steps and steps["prune"].get("group", group) != "weight":
        raise ConfigError(
            "recipe.prune: takes channels out of the encoder, which the decoder of this checkpoint reads; give "
            "recipe.prune.group=weight"
        )
    if "adapt" in steps:
        raise ConfigError(
            "recipe.adapt: takes channels and points out of the encoder, which the decoder of this checkpoint reads; "
            "leave it out"
        )
    if points is not None:
        raise ConfigError(f"points={points}: a segmentation network labels all the points that it sees; leave it out")


def check_classes(card: Mapping[str, Any], data: DataModule) -> Classes | None:
    """The classes of the data's points, those of the checkpoint; None if its points have no labels.

    Raises:
        ConfigError: If they are not those that the checkpoint was trained for.
    """
    target = data.targets.get("point_y")
    if not isinstance(target, Classes):
        return None
    categories = list(data.classes) if target.groups else None
    for what, known, here in (
        ("classes", card.get("classes"), list(target.names)),
        ("categories", card.get("categories"), categories),
    ):
        if known != here:
            raise ConfigError(
                f"data: the checkpoint was trained for the {what} {_listed(known)}, the data has {_listed(here)}; give "
                "data with the same ones in the same order"
            )
    return target


def _listed(names: Sequence[str] | None) -> str:
    return ", ".join(names[:8]) if names else "none"


def compressed(
    network: PointNetwork, recipe: Mapping[str, Any], out: Path, trainer: dict[str, Any], training: dict[str, Any]
) -> PointNetwork:
    """The compressed network, trained to reproduce the logits of the original one.

    Args:
        network: The original network.
        recipe: The steps.
        out: Run folder.
        trainer: Keywords of the trainer.
        training: ``data``, ``labels``, ``ignore``, ``shaping`` (keywords of the trainer for structure and pruning), and
            keywords of :class:`geo3d.tasks.distill_points.DistillPoints`.
    """
    student = _shaped(network, recipe, out, training)
    rest = tuple(set(forms.ORDER) - set(forms.SHAPING))
    student = PointNetwork(forms.apply(student.encoder, recipe, rest), student.decoder, student.head)
    if "quantize" in recipe:
        same = {name: value for name, value in (recipe["quantize"] or {}).items() if name != "layers"}
        student = PointNetwork(student.encoder, _rounded(student.decoder, same), _rounded(student.head, same))
        forms.calibrate(student, [_few(training["data"])])
    _fit(student, network, out, trainer, training)
    return _finalized(student, training["data"]).eval()


def _rounded(part: nn.Module, keywords: Mapping[str, Any]) -> nn.Module:
    """A quantised copy of a decoder or head, if it has layers."""
    if not any(isinstance(layer, Linear) for layer in part.modules()):
        return part
    return forms.quantize(part, **keywords)


def _few(data: DataModule) -> Any:
    size = data.num_points or max(len(data.prepared("train")[0].pos), 1)
    clouds = max(2, LOOKED_AT // size)
    return next(iter(data.calibration(clouds, clouds)))


def _shaped(network: PointNetwork, recipe: Mapping[str, Any], out: Path, training: dict[str, Any]) -> PointNetwork:
    """A copy of the network after structure and pruning of its encoder, which may need a training of their own."""
    shape = out / "shape"
    if is_finished(shape):
        return _opened(shape)
    student = copy.deepcopy(network).requires_grad_(True)
    encoder = forms.with_keywords(student.encoder, recipe)
    moments = None
    if "structure" in recipe and not (recipe["structure"] or {}).get("regularize"):
        moments = forms.input_moments(encoder, [_few(training["data"])])
    student = PointNetwork(forms.apply(encoder, recipe, forms.SHAPING, moments=moments), student.decoder, student.head)
    if forms.penalty(student) is None:
        return student
    start_run(shape, stored(out / "manifest.json"), stored(out / "settings.json") | {"stage": "shape"})
    metrics = _fit(student, network, shape, training["shaping"], training)
    student = _finalized(student, training["data"])
    save_encoder(student.encoder, shape / "encoder", head=student.head, decoder=student.decoder)
    finish_run(shape, metrics)
    return _opened(shape)


def _opened(shape: Path) -> PointNetwork:
    network = open_checkpoint(shape).network
    if network is None:
        raise ConfigError(f"{shape}: its decoder or head is missing; delete this folder")
    return network


def _finalized(network: PointNetwork, data: DataModule) -> PointNetwork:
    """The network in its final form.

    Structure and pruning change at the end what layers compute, so the running statistics of encoder and decoder are
    then averaged anew. Otherwise they stay those of the training, as the original network's do: averages over clouds
    without augmentation cost a float network 1.5 points of mIoU on MOSD.
    """
    encoder = forms.finalize(network.encoder)
    if any(record["step"] in forms.SHAPING for record in records(encoder)):
        recalibrate(PointRows(encoder, network.decoder), data.calibration(FITTED_CLOUDS))
    return PointNetwork(encoder, network.decoder, network.head)


def _fit(
    student: PointNetwork, teacher: PointNetwork, out: Path, trainer: dict[str, Any], training: dict[str, Any]
) -> dict[str, Any]:
    """Metrics of the student's training, which are also written to ``out/training.json``."""
    data: DataModule = training["data"]
    task = DistillPoints(
        student,
        teacher,
        Views(augmentation(data.rotation), num_points=data.num_points, normalize=data.normalize, num_views=1),
        **{key: training[key] for key in ("labels", "ignore", "seed", "lr", "weight_decay", "warmup")},
    )
    task.set_modes()
    runner = make_trainer(out, **trainer)
    fit(runner, task, data, out)
    metrics = training_metrics(runner)
    write_json(out / "training.json", metrics)
    return metrics


def bytes_of(folder: Path) -> int:
    """Bytes of the three parts of a network on disk."""
    return sum((folder / file).stat().st_size for file in (WEIGHTS, DECODER, HEAD))


def measured(
    before: PointNetwork, after: PointNetwork, data: DataModule, target: Classes | None, draws: int
) -> dict[str, Any]:
    """Metrics of both networks: how alike they are, their mIoU over all points of the test clouds, and their times.

    ``similarity`` is the mean cosine similarity of the logits of points, centred on the mean of the original ones;
    ``agreement`` is the fraction of points with the same label. Both are those of test clouds, or of training clouds if
    there is no test split. With labels ``test`` holds mIoU (``before``, ``after``, ``difference``), accuracy and the
    IoU of each class, averaged over ``draws`` of subsets and poses.
    """
    split = "test" if data.has("test") else "train"
    networks = {"before": before.eval(), "after": after.eval()}
    keywords = description(after.encoder)["keywords"]
    metrics: dict[str, Any] = _likeness(before, after, data.loader(split, batch_size=8)) | {"keywords": keywords}
    if target is not None and split == "test":
        here = data.of("supervised", "point_y")
        scores = {name: _scores(network, target, here, draws) for name, network in networks.items()}
        metrics["test"] = {"measure": "miou", **{name: each["miou"] for name, each in scores.items()}}
        metrics["test"]["difference"] = metrics["test"]["after"] - metrics["test"]["before"]
        for measure in ("accuracy", "class_iou"):
            metrics["test"][measure] = {name: each[measure] for name, each in scores.items()}
        metrics["test"]["draws"] = draws
    first = next(iter(data.loader(split, torch.tensor([0]), 1)))
    return metrics | {"ms": milliseconds(networks, first)}


@torch.no_grad()
def _likeness(before: PointNetwork, after: PointNetwork, batches: Any) -> dict[str, float]:
    pairs = [(before(batch), after(batch)) for batch in batches]
    old, new = (torch.cat(each) for each in zip(*pairs, strict=True))
    cosine = torch.cosine_similarity(old - old.mean(0), new - old.mean(0))
    return {"similarity": float(cosine.mean()), "agreement": float((old.argmax(1) == new.argmax(1)).float().mean())}


def _scores(network: PointNetwork, target: Classes, data: DataModule, draws: int) -> dict[str, Any]:
    """Means of the metrics over the draws."""
    views = Views(augmentation(data.rotation), num_points=data.num_points, normalize=data.normalize, num_views=1)
    with seeded("score"):  # the head that is drawn here is replaced
        task = Segment(network.encoder, target, views, decoder=network.decoder)
    task.head = network.head
    each = [task.score(data.reseeded(data.seed + draw)) for draw in range(draws)]
    ious = {name: [one["class_iou"][name] for one in each] for name in target.names}
    means = {name: None if None in values else sum(values) / draws for name, values in ious.items()}
    return {key: sum(one[key] for one in each) / draws for key in ("miou", "accuracy")} | {"class_iou": means}


def milliseconds(networks: Mapping[str, PointNetwork], batch: Batch) -> dict[str, float]:
    """Median milliseconds of each network for one batch, with one thread, timed in turns."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        calls = {name: _call(network, batch) for name, network in networks.items()}
        return {name: 1e3 * median(times) for name, times in interleaved(calls, ROUNDS).items()}
    finally:
        torch.set_num_threads(threads)


def _call(network: PointNetwork, batch: Batch) -> Any:
    """A call that computes the logits; the encoder is compiled where geo3d can."""
    program, layout = Program(network.encoder, num_points=len(batch.pos)), layout_of(batch)

    @torch.no_grad()
    def call() -> Tensor:
        return point_logits(network.decoder, network.head, program(batch), batch.get("y"), layout)

    return call
