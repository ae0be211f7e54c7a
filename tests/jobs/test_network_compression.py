"""Compressing segmentation networks: all three parts, what is kept of the card, what is measured and refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from geo3d.bench.model import load, sizes
from geo3d.checkpoint import open_checkpoint
from geo3d.cli.__main__ import main
from geo3d.compress import records
from geo3d.data import MOSD, Shapes
from geo3d.encoders import DGCNN, PointNet2
from geo3d.errors import ConfigError
from geo3d.invariance.views import Views
from geo3d.jobs import compress, finetune, sweep
from geo3d.jobs import network_compression as job_file
from geo3d.jobs.common import augmentation
from geo3d.nn.linear import Linear
from geo3d.seeds import seeded
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.distill_points import DistillPoints
from geo3d.tasks.segment import Segment

SAMPLE = Path(__file__).parents[2] / "datasets" / "mosd" / "sample"
TRAINER = {"max_steps": 3, "progress": False, "accelerator": "cpu"}
W8 = {"quantize": {"weights": 8, "activations": 8}}
ZEROS = {"prune": {"kept": 0.5, "group": "weight"}}
SHAPED = {"structure": {"min_channels": 16, "regularize": 1.0}} | W8


def scenes(**keywords):
    return DataModule(MOSD, **({"root": str(SAMPLE), "num_points": 100, "batch_size": 2, "holdout": 0.0} | keywords))


def objects(**keywords):
    return DataModule(
        Shapes, **({"size": 8, "classes": ["chair", "cup"], "num_points": 64, "batch_size": 4} | keywords)
    )


def levels():
    return PointNet2(
        num_samples=(16, 4), radii=(0.1, 0.3), num_neighbors=(8, 8), channels=((8, 16), (16, 16)), absolute=True
    )


def tuned(out, data, encoder, **keywords):
    with seeded(0, "encoder"):
        made = encoder()
    finetune(data, out=out, task=Segment, encoder=made, lr=1e-2, trainer=TRAINER | {"max_steps": 20}, **keywords)
    return out / "encoder"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A network of scenes, with a decoder that has layers."""
    return tuned(tmp_path_factory.mktemp("whole"), scenes(), levels)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A network of parts, whose head reads the category."""
    return tuned(tmp_path_factory.mktemp("parts"), objects(), lambda: DGCNN(k=4, channels=(8, 8), embedding=8))


def job(out, checkpoint, recipe, data=None, **keywords):
    keywords = {"shaping_steps": 2, "draws": 1, "trainer": TRAINER} | keywords
    return compress(checkpoint, scenes() if data is None else data, recipe, out=out, **keywords)


def miou(checkpoint, data, draws):
    """The figure by the task's own score, from the files alone."""
    opened = open_checkpoint(checkpoint)
    views = Views(augmentation(data.rotation), num_points=data.num_points, normalize=data.normalize, num_views=1)
    task = Segment(opened.encoder, data.targets["point_y"], views, decoder=opened.decoder)
    task.head = opened.head
    return sum(task.score(data.reseeded(draw).of("supervised", "point_y"))["miou"] for draw in range(draws)) / draws


def test_all_three_parts_are_quantised_and_the_card_goes_along(whole, tmp_path):
    metrics = job(tmp_path, whole, W8, draws=2)
    before, after = open_checkpoint(whole), open_checkpoint(tmp_path)
    for part in ("encoder", "decoder", "head"):
        assert [record["step"] for record in records(getattr(after, part))] == ["quantize"], part
        layers = [layer for layer in getattr(after, part).modules() if isinstance(layer, Linear)]
        assert layers and all(layer.quantizer is not None and bool(layer.quantizer.initialized) for layer in layers)
    first = {"levels.0.scales.0.linears.0"}  # reads coordinates alone
    for name, layer in after.network.named_modules():
        if isinstance(layer, Linear):
            exact = name.removeprefix("encoder.") in first
            assert (layer.input_quantizer is None) == exact, name
    assert after.card["classes"] == before.card["classes"] == ["table", "object"] and after.card["task"] == "segment"
    assert after.card["input"] == before.card["input"] and after.card["recipe"] == W8
    test = metrics["test"]
    assert test["before"] == pytest.approx(miou(whole, scenes(), 2))
    assert test["after"] == pytest.approx(miou(tmp_path, scenes(), 2))
    assert test["difference"] == pytest.approx(test["after"] - test["before"]) and test["measure"] == "miou"
    files = [f"{name}.safetensors" for name in ("encoder", "decoder", "head")]
    for name, folder in (("before", whole), ("after", tmp_path / "encoder")):
        assert metrics["bytes"][name] == sum((folder / file).stat().st_size for file in files)
    assert metrics["bytes"]["after"] < 0.5 * metrics["bytes"]["before"] and min(metrics["ms"].values()) > 0
    assert 0 <= metrics["agreement"] <= 1 and -1 <= metrics["similarity"] <= 1
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    for file in files:  # codes, not floats
        with safe_open(tmp_path / "encoder" / file, "pt") as stored:
            names = list(stored.keys())
            assert any(name.endswith(".codes") for name in names)
            assert all(stored.get_slice(name).get_dtype() == "U8" for name in names if name.endswith(".codes"))
    sums = json.loads((tmp_path / "finished.json").read_text())["sha256"]
    assert {f"encoder/{file}" for file in files} <= set(sums)


def test_parts_keep_their_groups_and_are_labelled_by_the_command(parts, tmp_path, capsys):
    job(tmp_path / "run", parts, W8, objects())
    before, after = open_checkpoint(parts), open_checkpoint(tmp_path / "run")
    for key in ("classes", "groups", "categories", "task"):
        assert after.card[key] == before.card[key], key
    assert records(after.decoder) == [] and [r["step"] for r in records(after.head)] == ["quantize"]
    assert after.head.category.input_quantizer is None and after.head.category.quantizer is not None
    np.savez(tmp_path / "cup.npz", pos=Shapes(size=2, classes=["chair", "cup"], num_points=150)[1].pos.numpy())
    words = [f"checkpoint={tmp_path / 'run' / 'encoder'}", f"cloud={tmp_path / 'cup.npz'}", "category=cup"]
    assert main(["predict", *words, f"out={tmp_path / 'l.npz'}"]) == 0
    label = np.load(tmp_path / "l.npz")["label"]
    assert set(label.tolist()) <= set(after.card["groups"][1]) and len(label) == 150


def test_without_steps_the_network_keeps_its_weights(whole, tmp_path):
    """Only running statistics move: labels of a network that has hardly been trained would depend on them."""
    metrics = job(tmp_path, whole, {}, lr=1e-9)
    before, after = (dict(open_checkpoint(path).network.named_parameters()) for path in (whole, tmp_path))
    assert before.keys() == after.keys() and 0 <= metrics["agreement"] <= 1
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-6)
    assert metrics["test"]["after"] == pytest.approx(miou(tmp_path, scenes(), 1))


def test_shaping_is_trained_first_and_keeps_all_parts(whole, tmp_path):
    job(tmp_path, whole, SHAPED)
    shape = open_checkpoint(tmp_path / "shape")
    assert shape.network is not None and [r["step"] for r in records(shape.encoder)] == ["structure"]
    steps = [[record["step"] for record in records(part)] for part in open_checkpoint(tmp_path).network.children()]
    assert steps == [["structure", "quantize"], ["quantize"], ["quantize"]]


def test_single_weights_may_go_and_labels_may_be_used(whole, tmp_path):
    metrics = job(tmp_path, whole, ZEROS, labels=1.0)
    assert "labels" in json.loads((tmp_path / "training.json").read_text())
    weights = [layer.masked() for layer in open_checkpoint(tmp_path).encoder.modules() if isinstance(layer, Linear)]
    assert sum(int((weight == 0).sum()) for weight in weights) > 0 and 0 <= metrics["test"]["after"] <= 1


class Killed(BaseException):
    """Stands for SIGKILL."""


def test_a_killed_run_goes_on_to_the_same_weights(whole, tmp_path, monkeypatch):
    straight = job(tmp_path / "straight", whole, SHAPED, trainer=TRAINER | {"max_steps": None, "max_epochs": 3})
    real, count = DistillPoints.training_step, 0

    def killing(self, *arguments):
        nonlocal count
        count += 1
        if count == 4:
            raise Killed
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(DistillPoints, "training_step", killing)
        with pytest.raises(Killed):
            job(tmp_path / "killed", whole, SHAPED, trainer=TRAINER | {"max_steps": None, "max_epochs": 3})
    again = job(tmp_path / "killed", whole, SHAPED, trainer=TRAINER | {"max_steps": None, "max_epochs": 3})
    assert {**again, "ms": 0} == {**straight, "ms": 0}
    a, b = (open_checkpoint(tmp_path / name).network.state_dict() for name in ("straight", "killed"))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    ("recipe", "keywords", "message"),
    [
        ({"prune": {"kept": 0.5}}, {}, "recipe.prune: takes channels out of the encoder, which the decoder of this"),
        ({"prune": None}, {}, "give recipe.prune.group=weight"),
        ({"prune": {"group": "block"}}, {}, "recipe.prune: takes channels"),
        ({"adapt": {"widths": [0.5, 1]}}, {}, "recipe.adapt: takes channels and points out of the encoder"),
        (W8, {"points": 50}, "points=50: a segmentation network labels all the points that it sees; leave it out"),
        (W8, {"data": objects()}, "trained for the classes table, object, the data has "),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(recipe, keywords, message, whole, tmp_path):
    with pytest.raises(ConfigError) as raised:
        job(tmp_path / "run", whole, recipe, **keywords)
    assert message in str(raised.value) and "\n" not in str(raised.value) and not (tmp_path / "run").exists()


def test_a_compressed_network_is_not_compressed_again(whole, tmp_path):
    job(tmp_path / "run", whole, W8)
    with pytest.raises(ConfigError, match=r"is compressed already \(quantize\)"):
        job(tmp_path / "again", tmp_path / "run", W8)


def test_the_categories_must_be_those_of_the_checkpoint(parts, tmp_path):
    data = objects(classes=["cup", "chair"])
    with pytest.raises(ConfigError, match="for the categories chair, cup, the data has cup, chair"):
        job(tmp_path / "run", parts, W8, data)


def test_times_are_those_of_one_thread_and_taken_in_turns(whole, monkeypatch):
    network = open_checkpoint(whole).network
    batch = next(iter(scenes().loader("test")))
    threads, seen = torch.get_num_threads(), []

    def timed(calls, rounds):
        seen.append((torch.get_num_threads(), list(calls), rounds))
        with torch.no_grad():
            torch.testing.assert_close(calls["before"](), network(batch))
        return {name: [0.001, 0.009, 0.002] for name in calls}

    monkeypatch.setattr(job_file, "interleaved", timed)
    torch.set_num_threads(2)
    try:
        assert job_file.milliseconds({"before": network, "after": network}, batch) == {"before": 2.0, "after": 2.0}
        assert seen == [(1, ["before", "after"], job_file.ROUNDS)] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_recipes_of_segmentations_are_listed_one_after_another(whole, tmp_path):
    sweep(scenes(), {"net": str(whole)}, {"w8": W8}, out=tmp_path, seeds=[0], draws=1, trainer=TRAINER)
    (row,) = json.loads((tmp_path / "metrics.json").read_text())["rows"].values()
    result = json.loads((tmp_path / "net" / "w8" / "0" / "metrics.json").read_text())
    assert row["after"] == result["test"]["after"] and row["error"] is None
    assert row["difference"] == pytest.approx(result["test"]["difference"])
    assert f"| {100 * row['difference']:+.1f} |" in (tmp_path / "table.md").read_text()


def test_bench_counts_the_encoder_alone(whole, tmp_path, capsys):
    (row,) = sizes(load([whole]), 100, 0)
    files = ("encoder.safetensors", "encoder.json")
    assert row["bytes_on_disk"] == sum((whole / file).stat().st_size for file in files)
    words = ["engines=[geo3d]", "threads=[1]", "repeats=2", "num_points=64", "memory=false", f"out={tmp_path / 'b'}"]
    assert main(["bench", f"checkpoint=[{whole}]", *words]) == 0
    assert (tmp_path / "b" / "model.json").exists()
