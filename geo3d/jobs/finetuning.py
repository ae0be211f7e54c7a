"""The job that trains with labels: fine-tuning of a pretrained encoder, or training from scratch."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from geo3d import heads
from geo3d.checkpoint import card_of, open_checkpoint, save_encoder
from geo3d.checks import Decay, Rate, Seed, Share, checked
from geo3d.compress import parse_recipe
from geo3d.errors import ConfigError
from geo3d.heads import Classifier
from geo3d.invariance.views import Views
from geo3d.jobs.common import (
    apply_recipe,
    arithmetic,
    augmentation,
    check_channels_stay,
    finalized,
    fresh_encoder,
    head_for,
    scalars,
    training_metrics,
)
from geo3d.jobs.pose_pictures import show_poses
from geo3d.jobs.run import finish_run, run_folder
from geo3d.nn.keywords import keywords_of
from geo3d.seeds import seeded
from geo3d.show.confusion import class_table, plot_confusion
from geo3d.tasks.classify import Classify
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.hand_pose import HandPose
from geo3d.tasks.supervised import Supervised
from geo3d.tasks.trainer import fit, make_trainer

DEFAULT_STEPS = 500  # does not depend on the fraction of labels, so that runs with fewer labels train for as long


@checked
def finetune(
    data: DataModule,
    *,
    out: str | Path,
    task: Callable[..., Supervised] = Classify,
    decoder: Callable[..., nn.Module] | None = None,
    head: Callable[..., nn.Module] | None = None,
    checkpoint: str | Path | None = None,
    encoder: nn.Module | None = None,
    from_scratch: bool = False,
    freeze: bool = False,
    seed: Seed = 0,
    lr: Rate = 1e-3,
    encoder_lr: Rate | None = None,
    weight_decay: Decay = 1e-4,
    warmup: Share = 0.05,
    recipe: Mapping[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Metrics of supervised training; the test split is evaluated once, at the end.

    Args:
        data: The clouds; the fraction ``label_fraction`` of the training labels is used.
        out: Run folder.
        task: The class of ``geo3d.tasks`` to train with; bind its own keywords with ``functools.partial``.
        decoder: For a task on points the decoder, a class of ``geo3d.decoders``; by default that of the checkpoint, or
            the task's own choice.
        head: For hand poses the head, a class of ``geo3d.heads``; by default the task's own choice.
        checkpoint: A pretrained encoder.
        encoder: Without a checkpoint, the encoder to train; with one, an encoder of the class that it must have.
        from_scratch: Train the checkpoint's architecture from fresh weights, as a baseline.
        freeze: Train the head alone.
        seed: Key of every random draw except those of the data, which depend on ``data.seed``.
        lr: Peak learning rate of the head.
        encoder_lr: Peak learning rate of the encoder; None takes ``lr``.
        weight_decay: Weight decay of the weight matrices.
        warmup: Fraction of the run in which the learning rate rises.
        recipe: Compression steps that are applied before the training (``geo3d.compress``).
        trainer: Keywords of ``tasks.trainer.make_trainer``; without ``max_epochs``, ``max_steps`` or ``max_time`` the
            run takes ``DEFAULT_STEPS`` (500) steps.

    Raises:
        ConfigError: If there is neither a checkpoint nor an encoder, the head cannot be saved, or ``out`` holds another
            run.
        CheckpointError: If the checkpoint is missing, damaged, or of another class than ``encoder``.
        CloudError: If the data does not fit the task.
    """
    of_task: Any = getattr(task, "func", task)
    if decoder is not None and not of_task.on_points:
        raise ConfigError(f"decoder: {of_task.__name__} works on whole clouds; leave the decoder out")
    if head is not None and "head" not in inspect.signature(of_task).parameters:
        raise ConfigError(f"head: {of_task.__name__} has a head of its own; leave it out")
    rows: Any = decoder
    if checkpoint is not None:
        opened = open_checkpoint(checkpoint, type(encoder) if encoder is not None else None)
        encoder = fresh_encoder(opened.card, seed) if from_scratch else opened.encoder
        if opened.decoder is not None and decoder is None and of_task.on_points:
            rows = _afresh(opened.decoder, seed) if from_scratch else opened.decoder.requires_grad_(True).train()
        elif opened.decoder is not None:
            warnings.warn(f"{checkpoint}: its decoder is left behind; the new checkpoint has none", stacklevel=2)
    if encoder is None:
        raise ConfigError("finetune needs checkpoint=DIR/encoder, or encoder=NAME to train from scratch")
    encoder = apply_recipe(encoder, recipe, fresh=from_scratch or checkpoint is None)
    learns: str = of_task.learns
    trainer, data = dict(trainer or {}), data.of("supervised", learns)
    own = {"decoder": rows} if rows is not None else {}
    own |= {"head": head} if head is not None else {}
    pose = "aligned" if data.normalize == "oriented_box" else data.rotation  # principal axes undo the data's poses
    views = Views(augmentation(pose, learns), num_points=data.num_points, normalize=data.normalize, num_views=1)
    with seeded(seed, "heads"):
        module = task(
            encoder.train(),
            data.targets[learns],
            views,
            freeze=freeze,
            lr=lr,
            encoder_lr=encoder_lr,
            weight_decay=weight_decay,
            warmup=warmup,
            seed=seed,
            **own,
        )
    if (kind := type(module.head).__name__) not in heads.__all__:
        raise ConfigError(f"{type(module).__name__}: its head, a {kind}, cannot be saved; add the class to geo3d.heads")
    pruning = parse_recipe(recipe).get("prune", {}) if recipe else {}
    if pruning.get("shrink_output") and not isinstance(module.head, Classifier):
        raise ConfigError(f"recipe.prune.shrink_output: only a Classifier can lose inputs, not a {kind}; leave it out")
    check_channels_stay(encoder, module.decoder, module.head)
    module.check(data)
    settings: dict[str, Any] = {
        "encoder": card_of(encoder),
        "from_scratch": from_scratch,
        "freeze": freeze,
        "seed": seed,
        "lr": lr,
    }
    settings |= {"encoder_lr": encoder_lr, "weight_decay": weight_decay, "warmup": warmup, "batch": data.batch_size}
    settings |= {"recipe": dict(recipe)} if recipe else {}
    settings |= arithmetic(trainer)
    settings |= {"task": scalars(module), "decoder": scalars(module.decoder)} if of_task.on_points else {}
    settings |= {"task": scalars(module), "head": scalars(module.head)} if isinstance(module, HandPose) else {}
    with run_folder(out, data.manifest(), settings) as out:
        if not any(trainer.get(end) for end in ("max_epochs", "max_steps", "max_time")):
            trainer = trainer | {"max_steps": DEFAULT_STEPS}
        runner = make_trainer(out, **trainer)
        fit(runner, module, data, out)
        metrics: dict[str, Any] = {
            "from_scratch": from_scratch or checkpoint is None,
            "labelled": len(data.training),
            "train": training_metrics(runner),
        }
        module.encoder = encoder = finalized(encoder, data)
        if runner.is_global_zero:
            card: dict[str, Any] = {
                "input": data.convention,
                "seed": seed,
            }
            if isinstance(module.head, Classifier):
                module.head = head_for(encoder, module.head)
            card |= {"task": type(module).__name__.lower(), "data": data.manifest_hash(), **module.described(data)}
            save_encoder(encoder, out / "encoder", head=module.head, decoder=module.decoder, **card)
            metrics["test"] = module.to(runner.strategy.root_device).score(data)  # Lightning has moved it to the CPU
            if "confusion" in metrics["test"]:
                counts, ious = metrics["test"]["confusion"], metrics["test"]["class_iou"]
                plot_confusion(counts, list(ious), out / "confusion.png")
                print(class_table(ious, counts))
            if isinstance(module, HandPose):
                show_poses(module, data, out)
            finish_run(out, metrics)
        return metrics


def _afresh(decoder: nn.Module, seed: int) -> nn.Module:
    """A decoder of the same class and keywords with fresh weights."""
    with seeded(seed, "decoder"):
        return type(decoder)(**keywords_of(decoder))
