"""A task that geo3d has never seen: one class and a head, on another target."""

import json
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn import functional

from geo3d import heads
from geo3d.checkpoint import open_checkpoint
from geo3d.data import Shapes
from geo3d.decoders import FeaturePropagation, GlobalConcat
from geo3d.decoders.build import decoder_for
from geo3d.encoders import DGCNN, PointNet2
from geo3d.errors import CloudError, ConfigError
from geo3d.invariance import SO3
from geo3d.invariance.views import Views
from geo3d.jobs import compress, finetune
from geo3d.seeds import seeded
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.supervised import Supervised


class PointHead(nn.Module):
    """A linear layer on each point's row."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.in_channels, self.num_classes = in_channels, num_classes
        self.layer = nn.Linear(in_channels, num_classes)

    def forward(self, rows):
        return self.layer(rows)


class Parts(Supervised):
    """The part of the object that each point belongs to."""

    learns: ClassVar[str] = "point_y"

    def __init__(self, encoder, target, views, **training):
        super().__init__(encoder, views, **training)
        self.decoder = decoder_for(encoder, GlobalConcat)
        self.head = PointHead(self.decoder.out_channels, len(target.names))

    def predict(self, features, batch):
        return self.head(self.decoder(features))

    def loss(self, prediction, batch):
        return functional.cross_entropy(prediction, batch.point_y), {}

    def score(self, data):
        right = self.predictions(data, "test").argmax(1) == torch.cat([b.point_y for b in data.loader("test")])
        return {"accuracy": float(right.float().mean())}


def data() -> DataModule:
    return DataModule(Shapes, size=16, classes=["chair", "car"], num_points=64, batch_size=8, holdout=0.0)


def run(out, task=Parts, **keywords):
    with seeded(0, "encoder"):
        encoder = DGCNN(k=6, channels=(16, 16), embedding=32)
    trainer = {"max_epochs": 12, "accelerator": "cpu", "progress": False}
    return finetune(data(), out=out, task=task, encoder=encoder, lr=1e-2, trainer=trainer, **keywords)


def test_a_task_on_points_is_trained_tested_and_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(heads, "PointHead", PointHead, raising=False)
    monkeypatch.setattr(heads, "__all__", [*heads.__all__, "PointHead"])
    metrics = run(tmp_path)
    assert metrics["train"]["loss"] < 2.0 and metrics["test"]["accuracy"] > 0.4
    found = open_checkpoint(tmp_path)
    assert type(found.head) is PointHead and type(found.decoder) is GlobalConcat and found.card["task"] == "parts"
    assert json.loads((tmp_path / "metrics.json").read_text())["test"] == metrics["test"]
    module = Parts(found.encoder, data().targets["point_y"], Views(SO3(), num_views=1))
    module.head, module.decoder = found.head, found.decoder
    assert module.score(data()) == metrics["test"]


def test_the_decoder_is_trained_at_the_rate_of_the_head():
    encoder = PointNet2(num_samples=(8, 4), width=0.1)
    module = Parts(encoder, data().targets["point_y"], Views(SO3(), num_views=1), lr=0.5, encoder_lr=0.1)
    module.decoder = decoder_for(encoder, FeaturePropagation, channels=((8,), (8,), (8,)))
    rates = {id(w): group["lr"] for group in module.configure_optimizers().param_groups for w in group["params"]}
    assert {rates[id(weight)] for part in (module.decoder, module.head) for weight in part.parameters()} == {0.5}
    assert {rates[id(weight)] for weight in encoder.parameters()} == {0.1}


def test_a_head_that_could_not_be_saved_is_refused_before_the_training(tmp_path):
    with pytest.raises(ConfigError, match="Parts: its head, a PointHead, cannot be saved"):
        run(tmp_path)


def test_a_target_that_the_data_lack_is_refused(tmp_path):
    class Hands(Parts):
        learns = "joints"

    with pytest.raises(CloudError, match="Shapes has no target 'joints'; it has y, point_y"):
        run(tmp_path, Hands)


def test_only_a_classifier_can_lose_inputs(tmp_path, monkeypatch):
    monkeypatch.setattr(heads, "PointHead", PointHead, raising=False)
    monkeypatch.setattr(heads, "__all__", [*heads.__all__, "PointHead"])
    recipe = {"prune": {"group": "channel", "kept": 0.5, "shrink_output": True}}
    with pytest.raises(ConfigError, match="recipe.prune.shrink_output: only a Classifier .* not a PointHead; leave it"):
        run(tmp_path, recipe=recipe)
    run(tmp_path / "run")
    with pytest.raises(ConfigError, match="labels: only a Classifier can be trained with labels, not a PointHead"):
        compress(tmp_path / "run", data(), {"quantize": {}}, out=tmp_path / "small", labels=1.0)
    trainer = {"max_steps": 1, "accelerator": "cpu", "progress": False}
    with pytest.warns(UserWarning, match="its head, a PointHead, is left behind; the new checkpoint has none"):
        compress(tmp_path / "run", data(), {"quantize": {}}, out=tmp_path / "small", trainer=trainer)


def test_what_a_task_lacks_is_named():
    class Nothing(Supervised):
        pass

    task, batch = Nothing(DGCNN(k=4, channels=(8,), embedding=8), Views(SO3(), num_views=1)), None
    for name, call in (
        ("predict", lambda: task.predict(None, batch)), ("loss", lambda: task.loss(None, batch)),
        ("score", lambda: task.score(data())),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=rf"Nothing has no {name}\(.*\); define one"):
            call()
