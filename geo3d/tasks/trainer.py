"""The Trainer of every job, and a fit that ends well however it ends."""

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar, Timer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import SIGTERMException

from geo3d.errors import CheckpointError, CollapseError, ConfigError, NotFiniteError
from geo3d.tasks.callbacks import Checkpoint, History, Throughput
from geo3d.tasks.resume import ANEW, LAST, ResumeFile


class StoppedError(Exception):
    """The run was asked to end (SIGTERM); what has been finished is saved and can be continued."""


def make_trainer(
    out: str | Path,
    *,
    max_epochs: int | None = None,
    max_time: str | None = None,
    max_steps: int | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    strategy: str = "auto",
    precision: str = "32-true",
    gradient_clip_val: float = 1.0,
    threads: int | None = None,
    progress: bool = True,
    callbacks: tuple[pl.Callback, ...] = (),
) -> pl.Trainer:
    """A Trainer that logs, checkpoints and continues inside the run folder ``out``.

    Args:
        out: Run folder.
        max_epochs: Passes over the training clouds.
        max_time: ``DD:HH:MM:SS`` after which the run ends; the schedule then follows the clock.
        max_steps: Optimiser steps.
        accelerator: ``auto``, ``cpu`` or ``gpu``.
        devices: Processes that train together.
        strategy: ``auto`` or ``ddp``.
        precision: ``32-true`` or ``bf16-mixed``.
        gradient_clip_val: Largest norm of the gradient; 0 for none.
        threads: CPU threads for torch; None leaves torch's choice.
        progress: Show progress: a bar on a terminal, else a line an epoch.
        callbacks: Further callbacks; they act before the epoch is recorded.

    Raises:
        ConfigError: If the run has no end, or ``max_time`` is not a time.
    """
    if max_epochs is None and max_time is None and max_steps is None:
        raise ConfigError("trainer: give max_epochs=N, max_steps=N or max_time=DD:HH:MM:SS, else the run has no end")
    for name, count in (("max_epochs", max_epochs), ("max_steps", max_steps), ("threads", threads)):
        if count is not None and count < 1:
            raise ConfigError(f"trainer.{name}: expected at least 1; found {count}")
    if not 0 <= gradient_clip_val < float("inf"):
        raise ConfigError(f"trainer.gradient_clip_val: expected 0 (no clipping) or more; found {gradient_clip_val}")
    for name, value, known in (
        ("accelerator", accelerator, ("auto", "cpu", "gpu", "cuda", "mps")),
        ("strategy", strategy, ("auto", "ddp")),
        ("precision", precision, ("32-true", "bf16-mixed", "64-true", "16-mixed")),
    ):
        if value not in known:
            raise ConfigError(f"trainer.{name}: expected one of {', '.join(known)}; found {value!r}")
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
        strategy=strategy,
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


def fit(trainer: pl.Trainer, module: pl.LightningModule, datamodule: pl.LightningDataModule, out: str | Path) -> None:
    """Train, continuing from the last finished epoch if ``out`` holds one.

    Raises:
        CheckpointError: If what ``out`` holds is damaged, or belongs to another run.
        CollapseError: When features are not finite any more; clouds are checked when they are read, so it is not them.
        StoppedError: After SIGTERM.
        KeyboardInterrupt: After Ctrl-C.
    """
    last = Path(out) / "checkpoints" / LAST
    resumed = last.exists()
    (saving,) = (callback for callback in trainer.callbacks if isinstance(callback, Checkpoint))  # type: ignore[attr-defined]
    try:
        # Or Lightning, told to end at a number of steps, would take a batch too many from the epoch it goes on after.
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
            callback.write()  # of a finished run it may have been deleted
    if resumed and not any(isinstance(c, Throughput) and c.clouds for c in trainer.callbacks):  # type: ignore[attr-defined]
        warnings.warn(f"{out} holds a finished run; nothing was left to train", stacklevel=2)


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside the block Ctrl-C ends in a KeyboardInterrupt, whatever Lightning does with it.

    Signals belong to the main thread: a run in another one leaves them alone.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SIGTERMException:  # a SystemExit, too
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
    parts = text.split(":") if isinstance(text, str) else []
    if len(parts) != 4 or not all(part.isdigit() for part in parts):
        raise ConfigError(f"trainer.max_time: expected DD:HH:MM:SS, for example 00:00:20:00; found {text!r}")
    return dict(zip(("days", "hours", "minutes", "seconds"), map(int, parts), strict=True))


def quiet() -> None:
    """Keep Lightning's hints, which do not concern geo3d's users, off the screen."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings(
        "ignore", message=r".*(does not have many workers|num_workers|LeafSpec|isinstance\(treespec).*"
    )
    warnings.filterwarnings("ignore", message=r".*(Checkpoint directory|You called `self.log|litlogger|litmodels).*")
