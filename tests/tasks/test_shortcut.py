import json

import torch
from support.blobs import Blobs
from torch import nn

from geo3d.cloud import Features
from geo3d.decoders import Upcast
from geo3d.encoders import DGCNN
from geo3d.invariance import Jitter
from geo3d.jobs import pretrain
from geo3d.objectives import Completion, InfoNCE, PointInfoNCE
from geo3d.seeds import seeded
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.shortcut import ShortcutWatch

NAMES = {"height", "position", "normal", "density"}


class Heights(nn.Module):
    """An encoder whose features are the heights of the points."""

    def forward(self, batch):
        return Features(batch.pos[:, 2:], batch.pos[: len(batch.y), :1])


def data():
    return DataModule(Blobs, batch_size=8, num_points=24, holdout=0.0)


def run(out, steps, objective=None):
    with seeded(0, "encoder"):
        encoder = DGCNN(k=4, channels=(8,), embedding=16)
    trainer = {"max_steps": steps, "progress": False, "accelerator": "cpu"}
    objective = objective or PointInfoNCE(pairs=64)
    return pretrain(encoder, objective, Jitter(0.01, 0.05), data(), out=out, projector=(16, 8), trainer=trainer)


def test_features_that_are_heights_hold_the_heights_and_nothing_else():
    watch = ShortcutWatch(data().loader("train", torch.arange(16), 8), seed=0)
    watch.floor = dict.fromkeys(NAMES, 0.25)
    record = watch.record(Heights(), Upcast(1), torch.device("cpu"))
    assert set(record) == NAMES and all(each["floor"] == 0.25 for each in record.values())
    assert record["height"]["result"] > 0.9
    assert all(record[name]["result"] < 0.5 for name in NAMES - {"height"})


def test_a_run_records_floor_and_result_also_when_it_is_continued(tmp_path):
    metrics = run(tmp_path / "a", 4)
    assert set(metrics["shortcut"]) == NAMES
    assert json.loads((tmp_path / "a" / "metrics.json").read_text())["shortcut"] == metrics["shortcut"]
    assert "shortcut_height" in (tmp_path / "a" / "metrics.csv").read_text()
    other = run(tmp_path / "b", 12)
    floors, results = (
        [{n: each[kind] for n, each in m["shortcut"].items()} for m in (metrics, other)] for kind in ("floor", "result")
    )
    assert floors[0] == floors[1] and results[0] != results[1]
    assert "shortcut" not in run(tmp_path / "c", 4, InfoNCE())


def test_an_objective_that_draws_clouds_is_watched_although_it_has_no_decoder(tmp_path):
    record = run(tmp_path, 8, Completion(dim=8, points=12, hidden=16))["shortcut"]
    assert set(record) == NAMES
    assert all(each["floor"] != each["result"] for name, each in record.items())


def test_an_encoder_that_leaves_points_out_is_not_watched():
    class Half(Heights):
        def forward(self, batch):
            return Features(batch.pos[::2], batch.pos[: len(batch.y), :1])

    watch = ShortcutWatch(data().loader("train", torch.arange(16), 8), 0, decoder=Upcast(3))
    assert watch.measured(watch.rows(Half(), None), torch.device("cpu")) == {}


def test_the_floor_is_not_measured_again_in_a_run_that_continues():
    watch = ShortcutWatch(data().loader("train", torch.arange(16), 8), seed=0)
    watch.load_state_dict({"floor": {"height": 0.5}})
    watch.on_train_start(None, None)
    assert watch.state_dict() == {"floor": {"height": 0.5}}
