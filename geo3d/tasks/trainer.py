"""The Trainer of every job, and a fit that resumes a run and reports how it ended."""

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar, Timer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException

from geo3d.checks import Like, OneOf, Range, checked
from geo3d.errors import CheckpointError, CollapseError, ConfigError, NotFiniteError
from geo3d.tasks.callbacks import Checkpoint, History, Throughput
from geo3d.tasks.resume import ANEW, LAST, ResumeFile

# A network may have parts that a loss does not reach, as a DGCNN's embedding behind the features of its points.
SEVERAL = "ddp_find_unused_parameters_true"

Time = Annotated[str, Like(r"(?=.*[1-9])\d{1,4}:\d{1,2}:\d{1,2}:\d{1,2}", "DD:HH:MM:SS, for example 00:00:20:00")]


class StoppedError(Exception):
    """SIGTERM ended the run. Its finished epochs are saved, and it can be continued."""


@checked
def make_trainer(
    out: str | Path,
    *,
    max_epochs: Annotated[int, Range(1, 1_000_000)] | None = None,
    max_time: Time | None = None,
    max_steps: Annotated[int, Range(1, 1_000_000_000)] | None = None,
    accelerator: Annotated[str, OneOf("auto", "cpu", "gpu", "cuda", "mps")] = "auto",
    devices: Annotated[int, Range(1, 1024)] = 1,
    strategy: Annotated[str, OneOf("auto", "ddp")] = "auto",
    precision: Annotated[str, OneOf("32-true", "bf16-mixed", "16-mixed")] = "32-true",
    gradient_clip_val: Annotated[float, Range(0, 1e9)] = 1.0,
    threads: Annotated[int, Range(1, 1024)] | None = None,
    progress: bool = True,
    callbacks: tuple[pl.Callback, ...] = (),
) -> pl.Trainer:
    """A Trainer that logs, checkpoints and continues inside the run folder ``out``.

    Args:
        out: Run folder.
        max_epochs: Passes over the training clouds.
        max_time: ``DD:HH:MM:SS`` after which the run ends; the schedule then follows the clock.
        max_steps: Optimiser steps.
        accelerator: ``auto``, ``cpu``, ``gpu``, ``cuda`` or ``mps``.
        devices: Processes that train together.
        strategy: ``auto`` or ``ddp``.
        precision: ``32-true`` or ``bf16-mixed``; on a GPU also ``16-mixed``.
        gradient_clip_val: Largest norm of the gradient; 0 for none.
        threads: CPU threads for torch; None leaves torch's choice.
        progress: Show progress: a bar on a terminal, else a line per epoch.
        callbacks: Further callbacks; they run before ``metrics.csv`` and the checkpoint are written.

    Raises:
        ConfigError: If the run has no end, an argument is out of its range, or the machine lacks what it asks for.
    """
    if max_epochs is None and max_time is None and max_steps is None:
        raise ConfigError("trainer: give max_epochs=N, max_steps=N or max_time=DD:HH:MM:SS, else the run has no end")
    check_processors(accelerator, devices, precision)
    if threads is not None:
        torch.set_num_threads(threads)
    quiet()
    out = Path(out)
    watchers: list[pl.Callback] = [Throughput(lines=progress and not sys.stderr.isatty()), *callbacks]
    watchers.sort(key=lambda callback: isinstance(callback, Throughput))  # its line shows what the others logged
    if max_time is not None:
        watchers.append(Timer(timedelta(**parse_time(max_time))))
    watchers += [History(out / "metrics.csv"), Checkpoint(out / "checkpoints" / LAST)]
    if progress and sys.stderr.isatty():
        watchers.append(RichProgressBar())
    return pl.Trainer(
        default_root_dir=out,
        max_epochs=max_epochs if max_epochs is not None else -1,
        max_steps=max_steps if max_steps is not None else -1,
        accelerator=accelerator,
        devices=devices,
        strategy=SEVERAL if devices > 1 or strategy == "ddp" else "auto",
        precision=precision,  # type: ignore[arg-type]
        gradient_clip_val=gradient_clip_val or None,
        callbacks=watchers,
        plugins=[ResumeFile(out)],
        logger=TensorBoardLogger(out, name="tensorboard", version=""),
        enable_progress_bar=progress and sys.stderr.isatty(),
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
    )


def check_processors(accelerator: str, devices: int, precision: str) -> None:
    """Check that training on the CPU can use this precision and has processors for this many processes.

    Raises:
        ConfigError: If not.
    """
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
    if on_cpu and precision == "16-mixed":
        raise ConfigError("trainer.precision: 16-mixed needs a GPU; take 32-true, or bf16-mixed")
    if on_cpu and devices > max(2, os.cpu_count() or 1):
        raise ConfigError(f"trainer.devices: {devices} processes are more than the {os.cpu_count()} processors here")


def fit(trainer: pl.Trainer, module: pl.LightningModule, datamodule: pl.LightningDataModule, out: str | Path) -> None:
    """Train, continuing from the last finished epoch if ``out`` holds one.

    Raises:
        CheckpointError: If the checkpoint in ``out`` is damaged, or belongs to another run.
        CollapseError: If features are not finite. Clouds are checked when they are read, so they are not the cause.
        StoppedError: After SIGTERM.
        KeyboardInterrupt: After Ctrl-C.
    """
    last = Path(out) / "checkpoints" / LAST
    resumed = last.exists()
    (saving,) = (callback for callback in trainer.callbacks if isinstance(callback, Checkpoint))  # type: ignore[attr-defined]
    try:
        # Otherwise Lightning, given ``max_steps``, trains a batch too many of the last finished epoch when it resumes.
        trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]
        with interruptible():
            trainer.fit(module, datamodule=datamodule, ckpt_path=last if resumed else None, weights_only=True)
    except NotFiniteError as error:
        raise CollapseError(
            f"step {trainer.global_step}: the features, and so the loss, are not finite; lower lr, or use "
            "trainer.precision=32-true"
        ) from error
    except SIGTERMException:
        raise StoppedError(f"stopped by SIGTERM; run the same command again to continue in {out}") from None
    except (RuntimeError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        if not resumed or saving.begun:
            raise
        raise CheckpointError(f"{last}: does not fit this run ({type(error).__name__}); {ANEW}") from error
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, History) and callback.rows and trainer.is_global_zero:
            callback.write()  # the file of a finished run may have been deleted
    if resumed and not any(isinstance(c, Throughput) and c.clouds for c in trainer.callbacks):  # type: ignore[attr-defined]
        warnings.warn(f"{out} holds a finished run; nothing was left to train", stacklevel=2)


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside the block Ctrl-C raises a KeyboardInterrupt, although Lightning handles the signal itself.

    Only the main thread can set signal handlers, so a run in another thread leaves them alone.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SIGTERMException:  # is a SystemExit, too
        raise
    except SystemExit:  # how Lightning ends a run on Ctrl-C
        raise KeyboardInterrupt from None
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


def parse_time(text: str) -> dict[str, int]:
    """Days, hours, minutes and seconds of ``DD:HH:MM:SS``.

    Example:
        >>> parse_time("00:01:30:00")
        {'days': 0, 'hours': 1, 'minutes': 30, 'seconds': 0}
    """
    return dict(zip(("days", "hours", "minutes", "seconds"), map(int, text.split(":")), strict=True))


def quiet() -> None:
    """Keep Lightning's hints, which do not concern geo3d's users, off the screen."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore", message=r".*(does not have many workers|num_workers|LeafSpec|isinstance\(treespec).*"
    )
    warnings.filterwarnings("ignore", message=r"find_unused_parameters=True was specified in DDP constructor")
    warnings.filterwarnings("ignore", message=r".*(Checkpoint directory|You called `self.log|litlogger|litmodels).*")
