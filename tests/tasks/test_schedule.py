import math
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Timer
from support.blobs import Blobs

from geo3d.data.targets import Classes
from geo3d.encoders import DGCNN
from geo3d.invariance import SO3
from geo3d.invariance.views import Views
from geo3d.nn.norm import BatchNorm
from geo3d.tasks.classify import Classify
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.schedule import decayed, elapsed_fraction, warmup_cosine
from geo3d.tasks.trainer import make_trainer


def test_warmup_meets_the_cosine_and_ends_at_zero():
    assert warmup_cosine(0.1, 0.1) == 1.0
    assert warmup_cosine(1.0, 0.1) == pytest.approx(0.0)
    assert warmup_cosine(0.55, 0.1) == pytest.approx(0.5)
    assert warmup_cosine(0.0, 0.0) == 1.0
    values = [warmup_cosine(i / 100, 0.2) for i in range(101)]
    assert values.index(max(values)) == 20 and all(math.isfinite(value) for value in values)


def test_no_step_of_a_run_has_learning_rate_zero(tmp_path):
    rates = []

    class Note(pl.Callback):
        def on_before_optimizer_step(self, trainer, module, optimizer):
            rates.append(optimizer.param_groups[0]["lr"])

    views = Views(SO3(), num_points=16, num_views=1)
    module = Classify(DGCNN(k=4, channels=(8,), embedding=8), Classes(("a", "b", "c")), views, lr=0.5, warmup=0.25)
    trainer = make_trainer(tmp_path, max_steps=8, accelerator="cpu", progress=False, callbacks=(Note(),))
    data = DataModule(Blobs, num_points=16, batch_size=8, size=24)
    data = data.of("supervised", "y")
    trainer.fit(module, data)
    assert rates == pytest.approx([0.5 * warmup_cosine((step + 0.5) / 8, 0.25) for step in range(8)])
    assert min(rates) > 0 and rates[0] == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("elapsed", "left", "fraction"), [(0.0, 8.0, 0.0), (2.0, 6.0, 0.25), (8.0, 0.0, 1.0), (0.0, 0.0, 0.0)]
)
def test_time_counts_where_it_ends_a_run_sooner_than_steps(elapsed, left, fraction, tmp_path, monkeypatch):
    trainer = make_trainer(tmp_path, max_epochs=9, max_time="00:00:00:08", accelerator="cpu", progress=False)
    monkeypatch.setattr(pl.Trainer, "estimated_stepping_batches", math.inf)
    monkeypatch.setattr(Timer, "time_elapsed", lambda self, stage=None: elapsed)
    monkeypatch.setattr(Timer, "time_remaining", lambda self, stage=None: left)
    assert elapsed_fraction(trainer) == pytest.approx(fraction)


def test_norms_and_biases_are_not_decayed_and_frozen_weights_left_out():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), BatchNorm(4), torch.nn.Linear(4, 2).requires_grad_(False))
    matrices, others = decayed(module, 0.1, 1e-3)
    assert [p.shape for p in matrices["params"]] == [(4, 3)] and matrices["weight_decay"] == 0.1
    assert sum(p.numel() for p in others["params"]) == 4 + 4 + 4 and others["weight_decay"] == 0.0


@pytest.mark.parametrize(("steps", "fraction"), [(0, 0.0), (math.inf, 0.0), (-1, 0.0), (8, 0.5), (2, 1.0), (1, 1.0)])
def test_a_run_without_a_number_of_steps_has_done_none_of_them(steps, fraction):
    running = SimpleNamespace(estimated_stepping_batches=steps, global_step=4, callbacks=[])
    assert elapsed_fraction(running) == fraction
