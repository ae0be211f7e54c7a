"""Callbacks of a run: checkpoints, history, throughput, collapse, online kNN."""

import csv
import io
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader

from geo3d.errors import CollapseError
from geo3d.io.files import replacing
from geo3d.metrics import knn_accuracy
from geo3d.tasks.extract import extract


class Checkpoint(pl.Callback):
    """Writes ``path`` after each epoch, through the trainer's :class:`geo3d.tasks.resume.ResumeFile`."""

    def __init__(self, path: Path) -> None:
        self.path, self.begun = path, False

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Note that training has begun, so that a checkpoint to resume from has been loaded."""
        self.begun = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Save."""
        trainer.save_checkpoint(self.path)


class History(pl.Callback):
    """Adds a row per epoch and writes all rows to ``path``; a resumed run appends to its earlier rows."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, []  # type: tuple[Path, list[dict[str, float]]]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Add the epoch's means."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.rows.append({"epoch": trainer.current_epoch + 1, "step": trainer.global_step, **values})
        if trainer.is_global_zero:
            self.write()

    def write(self) -> None:
        """Write all rows so far."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        table = csv.DictWriter(text, names)
        table.writeheader()
        table.writerows(self.rows)
        with replacing(self.path) as path:
            path.write_text(text.getvalue(), encoding="utf-8")

    def state_dict(self) -> dict[str, Any]:
        """The rows, for the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The rows, from the checkpoint."""
        self.rows = list(state_dict["rows"])


class OnlineKNN(pl.Callback):
    """Logs the kNN accuracy of the encoder on a held-out slice of the training split.

    Args:
        bank: Batches of the clouds that vote.
        bank_y: Their labels.
        query: Batches of the clouds to classify.
        query_y: Their labels.
        every: Number of epochs from one measurement to the next.
    """

    def __init__(self, bank: DataLoader, bank_y: Tensor, query: DataLoader, query_y: Tensor, every: int = 1) -> None:
        self.bank, self.bank_y, self.query, self.query_y, self.every = bank, bank_y, query, query_y, every

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Log the accuracy, in every ``every``-th epoch."""
        if (trainer.current_epoch + 1) % self.every:
            trainer.callback_metrics.pop("knn", None)  # the value of an earlier epoch, which the history would repeat
            return
        bank = extract(pl_module.encoder, self.bank, pl_module.device)
        query = extract(pl_module.encoder, self.query, pl_module.device)
        value = knn_accuracy(bank, self.bank_y, query, self.query_y, k=min(20, len(bank)))
        pl_module.log("knn", float(value), prog_bar=True, rank_zero_only=True)


class CollapseWatch(pl.Callback):
    """Ends a run whose embeddings have collapsed, instead of letting it use up its budget.

    Args:
        min_std: Least ``embedding_std`` (1 = spread evenly over the sphere, 0 = all the same).
        min_rank: Least effective rank.
        patience: Steps in a row below either bound before the run is ended.
    """

    def __init__(self, min_std: float = 0.02, min_rank: float = 1.5, patience: int = 50) -> None:
        self.min_std, self.min_rank, self.patience, self.strikes = min_std, min_rank, patience, 0

    def state_dict(self) -> dict[str, Any]:
        """The strikes so far, for the checkpoint."""
        return {"strikes": self.strikes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The strikes, from the checkpoint."""
        self.strikes = state_dict["strikes"]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Count the steps in a row that look collapsed."""
        std, rank = pl_module.last["std"], pl_module.last["rank"]
        dead = std < self.min_std or rank < self.min_rank
        self.strikes = self.strikes + 1 if dead else 0
        if self.strikes >= self.patience:
            raise CollapseError(
                f"step {trainer.global_step}: the embeddings have collapsed (std {std:.4f}, 1 is spread and the least "
                f"allowed {self.min_std}; effective rank {rank:.2f}, the least allowed {self.min_rank}) for "
                f"{self.strikes} steps; try a lower lr, a larger batch, another objective, or weaker invariances"
            )


class Throughput(pl.Callback):
    """Logs the number of clouds per second.

    Args:
        lines: Whether to print a line per epoch too, in place of a progress bar.
    """

    def __init__(self, lines: bool) -> None:
        self.lines, self.clouds = lines, 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start the epoch's clock."""
        self.start, self.clouds = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: object, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch and log the rate here, before callbacks at the end of the epoch read the metrics."""
        self.clouds += batch.num_graphs * trainer.world_size
        seconds = time.perf_counter() - self.start
        pl_module.log("clouds_per_s", self.clouds / seconds, prog_bar=True, on_step=True, on_epoch=False)
        pl_module.log("epoch_seconds", seconds, on_step=True, on_epoch=False)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Print the metrics of the epoch."""
        if self.lines and trainer.is_global_zero:
            values = {k: float(v) for k, v in trainer.callback_metrics.items() if k != "epoch_seconds"}
            shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            end = f"/{trainer.max_epochs}" if trainer.max_epochs not in (None, -1) else ""
            print(f"epoch {trainer.current_epoch + 1}{end}  step {trainer.global_step}  {shown}", file=sys.stderr)
