"""The job that pretrains an encoder without labels."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pytorch_lightning as pl
import torch
from torch import nn

from geo3d.checkpoint import card_of, save_encoder
from geo3d.checks import Decay, Length, Range, Rate, Seed, Share, Size, checked
from geo3d.decoders import Upcast
from geo3d.decoders.build import decoder_for
from geo3d.invariance import Invariance
from geo3d.invariance.views import Views
from geo3d.jobs.common import (
    apply_recipe,
    arithmetic,
    check_channels_stay,
    finalized,
    history,
    scalars,
    training_metrics,
)
from geo3d.jobs.run import finish_run, run_folder
from geo3d.seeds import generator, seeded
from geo3d.show.curves import plot_training
from geo3d.tasks.callbacks import CollapseWatch, OnlineKNN
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.pretrain import Pretrain
from geo3d.tasks.shortcut import ShortcutWatch
from geo3d.tasks.trainer import fit, make_trainer

WATCHED = 16  # training clouds whose points the shortcut's watchdog looks at
MONITOR_BANK = 512  # most training clouds that vote in the online kNN, and most held-out clouds that it classifies


@checked
def pretrain(
    encoder: nn.Module,
    objective: nn.Module,
    invariance: Invariance,
    data: DataModule,
    *,
    out: str | Path,
    seed: Seed = 0,
    lr: Rate = 1e-3,
    weight_decay: Decay = 1e-4,
    warmup: Share = 0.05,
    ema: Share = 0.99,
    average: Share = 0.0,
    projector: Annotated[Sequence[Size], Length(1, 16)] = (512, 128),
    monitor_every: Annotated[int, Range(0, 1_000_000)] = 1,
    recipe: Mapping[str, Any] | None = None,
    decoder: Callable[..., nn.Module] | None = None,
    trainer: dict[str, Any],
) -> dict[str, Any]:
    """Metrics of a pretraining run; the encoder is saved in ``out/encoder``.

    A run that is started again with the same ``out`` continues after the last finished epoch.

    Args:
        encoder: The encoder to train (initialise it under ``seeds.seeded(seed, "encoder")``, as the command does).
        objective: One of ``geo3d.objectives``.
        invariance: Draws the transformations that make the views.
        data: The clouds; labels serve the online kNN alone, which scores on a slice that training never sees.
        out: Run folder.
        seed: Key of every random draw except those of the data, which depend on ``data.seed``.
        lr: Peak learning rate.
        weight_decay: Weight decay of the weight matrices.
        warmup: Fraction of the run in which the learning rate rises.
        ema: Momentum of the teacher at the start, for objectives that have a teacher.
        average: Save an exponential moving average of the weights with this momentum; 0 saves the last weights.
        projector: Sizes of the layers of the projector behind the encoder.
        monitor_every: Epochs between measurements of the online kNN and, for an objective on points, of the geometric
            shortcut (``geo3d.probes.shortcut``); 0 for none.
        decoder: The decoder for an objective on points, see :class:`geo3d.tasks.pretrain.Pretrain`.
        recipe: Compression steps that are applied before the training, so that the compressed encoder is trained.
        trainer: Keywords of ``tasks.trainer.make_trainer``.
    """
    encoder = apply_recipe(encoder, recipe, fresh=True)
    with seeded(seed, "heads"):
        task = Pretrain(
            encoder,
            objective,
            Views(invariance, num_points=data.num_points, normalize=data.normalize),
            projector=projector,
            lr=lr,
            weight_decay=weight_decay,
            warmup=warmup,
            ema=ema,
            average=average,
            seed=seed,
            decoder=decoder,
        )
    check_channels_stay(encoder, task.decoder)
    settings: dict[str, Any] = {
        "encoder": card_of(encoder),
        "objective": scalars(objective),
        "invariance": repr(invariance),
    }
    settings |= {"seed": seed, "lr": lr, "weight_decay": weight_decay, "warmup": warmup, "ema": ema}
    settings |= {"average": average, "projector": list(projector), "batch": data.batch_size}
    settings |= {"recipe": dict(recipe)} if recipe else {}
    settings |= {"decoder": scalars(task.decoder)} if task.decoder is not None else {}
    settings |= arithmetic(trainer)
    with run_folder(out, data.manifest(), settings) as out:
        callbacks: list[pl.Callback] = [CollapseWatch()]
        if monitor_every and len(data.heldout):
            callbacks.append(_online_knn(data, monitor_every, seed))
        shortcut = _shortcut(task, data, monitor_every, seed) if monitor_every else None
        callbacks += [] if shortcut is None else [shortcut]
        runner = make_trainer(out, callbacks=tuple(callbacks), **trainer)
        fit(runner, task, data, out)
        metrics = training_metrics(runner)
        metrics["clouds"] = metrics.get("step", 0) * data.training_batch * runner.world_size
        metrics |= {
            "parameters": sum(p.numel() for p in encoder.parameters()),
            "reproducible": trainer.get("max_time") is None,
        }
        if shortcut is not None and shortcut.floor:
            trained, rows_of = task.published()
            metrics["shortcut"] = shortcut.record(trained, rows_of, runner.strategy.root_device)
        if runner.is_global_zero:
            card: dict[str, Any] = {
                "input": data.convention,
                "seed": seed,
                "objective": type(objective).__name__,
                "invariance": invariance.name,
                "data": data.manifest_hash(),
                "metrics": metrics,
            }
            trained, rows_of = task.published()
            save_encoder(finalized(trained, data), out / "encoder", decoder=rows_of, **card)
            rows = [{k: v for k, v in row.items() if k != "epoch_seconds"} for row in history(runner)]
            plot_training(rows, out / "training.png", shortcut=shortcut.floor if shortcut is not None else None)
            finish_run(out, metrics)
        return metrics


def _shortcut(task: Pretrain, data: DataModule, every: int, seed: int) -> ShortcutWatch | None:
    """The watchdog, on a few training clouds, for objectives that learn about points; None if there is only one cloud.

    An objective that draws clouds has no decoder; then the features of all levels are looked at, as the probe does.
    """
    decoder = None
    if task.decoder is None:
        if task.objective.needs != "clouds" or not hasattr(task.encoder, "level_channels"):
            return None
        decoder = decoder_for(task.encoder, Upcast)
    chosen = data.training[torch.randperm(len(data.training), generator=generator(seed, "shortcut"))[:WATCHED]]
    loader = data.loader("train", chosen, batch_size=8)
    return ShortcutWatch(loader, seed, every, decoder) if len(chosen) > 1 else None


def _online_knn(data: DataModule, every: int, seed: int) -> OnlineKNN:
    training, labels = data.training, data.labels("train")
    bank = training[torch.randperm(len(training), generator=generator(seed, "bank"))[:MONITOR_BANK]]
    query = data.heldout[torch.randperm(len(data.heldout), generator=generator(seed, "query"))[:MONITOR_BANK]]
    return OnlineKNN(data.loader("train", bank), labels[bank], data.loader("train", query), labels[query], every)
