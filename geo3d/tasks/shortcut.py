"""The watchdog of objectives on points: how much plain geometry the features hold, beside the untrained encoder's."""

from copy import deepcopy
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from geo3d.network import PointRows
from geo3d.probes.shortcut import held_out_score, plain_geometry
from geo3d.seeds import generator
from geo3d.tasks.extract import recalibrate

POINTS = 512
"""Points of each cloud that are looked at."""


class ShortcutWatch(pl.Callback):
    """Logs how well height, position, normal and density are predicted from the features (``geo3d.probes.shortcut``).

    The regression is fitted on half of the clouds and scored on the others (``held_out_score``).

    Args:
        loader: Batches of a few clouds, always the same.
        seed: Key of the points that are looked at.
        every: Number of epochs from one measurement to the next.
        decoder: What makes rows for points if the objective has no decoder of its own; without parameters.
    """

    def __init__(self, loader: DataLoader, seed: int, every: int = 1, decoder: nn.Module | None = None) -> None:
        self.loader, self.seed, self.every, self.decoder = loader, seed, every, decoder
        self.floor: dict[str, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Measure the untrained encoder, its statistics fitted to the clouds, unless an earlier part of the run has."""
        if not self.floor:
            rows = deepcopy(self.rows(pl_module.encoder, pl_module.decoder))
            self.floor = self.measured(recalibrate(rows, self.loader, pl_module.device), pl_module.device)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Measure and log, in every ``every``-th epoch."""
        if (trainer.current_epoch + 1) % self.every:
            for name in self.floor:
                trainer.callback_metrics.pop(f"shortcut_{name}", None)
            return
        rows = self.rows(pl_module.encoder, pl_module.decoder)
        for name, value in self.measured(rows, pl_module.device).items():
            pl_module.log(f"shortcut_{name}", value, rank_zero_only=True)

    def rows(self, encoder: nn.Module, decoder: nn.Module | None) -> PointRows:
        """The network whose rows are looked at."""
        chosen = self.decoder if decoder is None else decoder
        assert chosen is not None, "objectives on points have a decoder, and all others are given one"
        return PointRows(encoder, chosen)

    @torch.no_grad()
    def measured(self, rows: nn.Module, device: torch.device) -> dict[str, float]:
        """R^2 of each quantity; nothing if the encoder leaves points out."""
        training = rows.training
        rows.eval()
        x: list[Tensor] = []
        y: dict[str, list[Tensor]] = {}
        for number, batch in enumerate(self.loader):
            of_points, geometry = rows(batch.to(device)).float().cpu(), plain_geometry(batch.to("cpu"))
            if len(of_points) != len(batch.pos):
                break
            for cloud, (start, stop) in enumerate(zip(batch.ptr[:-1].tolist(), batch.ptr[1:].tolist(), strict=True)):
                draw = generator(self.seed, "shortcut", number, cloud)
                chosen = start + torch.randperm(stop - start, generator=draw)[:POINTS]
                x.append(of_points[chosen])
                for name, value in geometry.items():
                    y.setdefault(name, []).append(value[chosen])
        rows.train(training)
        return {name: held_out_score(x, values) for name, values in y.items()}

    def record(
        self, encoder: nn.Module, decoder: nn.Module | None, device: torch.device
    ) -> dict[str, dict[str, float]]:
        """Floor and result of each quantity, with the trained encoder and decoder as they are published."""
        result = self.measured(self.rows(encoder, decoder).to(device), device)
        return {name: {"floor": self.floor[name], "result": value} for name, value in result.items()}

    def state_dict(self) -> dict[str, Any]:
        """What was measured before training, for the checkpoint."""
        return {"floor": self.floor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What was measured before training, from the checkpoint."""
        self.floor = dict(state_dict["floor"])
