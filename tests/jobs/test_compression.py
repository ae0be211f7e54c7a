"""Compressing a trained encoder, and training in compressed form from the start, on a tiny data set."""

import json

import numpy as np
import pytest
import torch
import yaml
from support.blobs import Blobs

from geo3d import compress as forms
from geo3d import objectives
from geo3d.checkpoint import load_encoder, load_head, read_card, save_encoder
from geo3d.cli.__main__ import main
from geo3d.cli.check import recipe_mistakes
from geo3d.cli.config import choices, config_dir
from geo3d.cloud import collate, first_points
from geo3d.encoders import DGCNN, PointNet, PointNet2
from geo3d.errors import CheckpointError, CloudError, ConfigError
from geo3d.invariance import SO3
from geo3d.jobs import compress, finetune, pretrain, probe
from geo3d.seeds import seeded
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.distill import Distill

TRAINER = {"max_epochs": 2, "progress": False, "accelerator": "cpu"}
W4 = {"quantize": {"weights": 4, "activations": 4}}
STRUCTURED = {"structure": {"min_channels": 16}} | W4
REGULAR = {"structure": {"min_channels": 16, "regularize": 1.0}} | W4
PRUNED = {"prune": {"kept": 0.6, "shrink_output": True}} | W4
ZEROS = {"prune": {"kept": 0.5, "group": "weight"}} | W4
ADAPTIVE = {"adapt": {"widths": [0.5, 1], "depths": [2], "ks": [2, 4], "points": [8, 16]}}


class Unlabelled(Blobs):
    """No labels, and no test split that could be scored."""

    def __init__(self, split="train", **keywords):
        super().__init__(split, **keywords)
        self.labels, self.classes = None, []

    def __getitem__(self, index):
        cloud = super_item(self, index)
        del cloud.y
        return cloud


def super_item(self, index):
    self.labels = torch.arange(self.size) % 3
    cloud = Blobs.__getitem__(self, index)
    self.labels = None
    return cloud


def blobs(dataset=Blobs, **keywords):
    return DataModule(dataset, **({"batch_size": 8, "num_points": 16, "size": 24, "holdout": 0.0} | keywords))


def dgcnn():
    with seeded(5, "encoder"):
        return DGCNN(k=4, channels=(16, 16), embedding=16)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """An encoder without a head, its statistics fitted."""
    encoder = dgcnn()
    for batch in blobs().loader("train", batch_size=8):
        encoder.train()(batch)
    return save_encoder(encoder, tmp_path_factory.mktemp("plain") / "encoder")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned")
    finetune(blobs(), out=out, encoder=dgcnn(), trainer=TRAINER)
    return out / "encoder"


def job(out, checkpoint, recipe, data=None, **keywords):
    keywords = {"shaping_steps": 6, "draws": 2, "trainer": TRAINER} | keywords
    return compress(checkpoint, blobs() if data is None else data, recipe, out=out, **keywords)


def steps(folder):
    return [record["step"] for record in read_card(folder)["compression"]]


RECIPES = {"structured": STRUCTURED, "regular": REGULAR, "pruned": PRUNED, "zeros": ZEROS, "adaptive": ADAPTIVE}


@pytest.mark.parametrize("name", ["regular", "pruned", "adaptive"])
def test_without_labels_or_head(name, plain, tmp_path):
    recipe = RECIPES[name]
    metrics = job(tmp_path, plain, recipe, blobs(Unlabelled))
    assert steps(tmp_path) == list(recipe) and json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert -1 <= metrics["similarity"] <= 1 and "test" not in metrics and not (tmp_path / "test.npz").exists()
    assert metrics["bytes"]["after"] == (tmp_path / "encoder" / "encoder.safetensors").stat().st_size
    assert load_head(tmp_path) is None and forms.penalty(load_encoder(tmp_path)) is None
    for file in ("settings.json", "manifest.json", "versions.json", "metrics.csv", "training.json"):
        assert (tmp_path / file).stat().st_size > 0
    assert (tmp_path / "shape" / "encoder").exists() == (name != "adaptive")
    card = read_card(tmp_path)
    assert card["recipe"] == json.loads(json.dumps(recipe)) and card["seed"] == 0
    cloud = load_encoder(tmp_path)(collate([blobs().prepared("test")[0]])).cloud
    assert bool(cloud.isfinite().all()) and (cloud.shape[1] < 32) == (name == "pruned")


@pytest.mark.parametrize("name", ["structured", "pruned"])
def test_with_a_head_and_labels(name, tuned, tmp_path):
    recipe = RECIPES[name]
    metrics = job(tmp_path, tuned, recipe, labels=1.0)
    head, encoder = load_head(tmp_path), load_encoder(tmp_path)
    assert head.in_channels == encoder.cloud_channels and head.num_classes == 3
    assert [r["step"] for r in forms.records(head)] == (["quantize"] if "quantize" in recipe else [])
    assert set(metrics["test"]) == {"before", "after", "difference", "standard_error", "draws"}
    table = np.load(tmp_path / "test.npz")
    for part in ("before", "after"):
        assert table[part].shape == (24,) and metrics["test"][part] == pytest.approx(table[part].mean(), abs=1e-6)
    wanted = (table["after"] - table["before"]).std(ddof=1) / 24**0.5
    assert metrics["test"]["standard_error"] == pytest.approx(wanted, abs=1e-6)
    # the figure is what the saved files do
    hits = []
    for draw in range(2):
        for batch in blobs(seed=draw).loader("test"):
            with torch.no_grad():
                hits.append((head(encoder(batch).cloud).argmax(1) == batch.y).float().mean())
    assert metrics["test"]["after"] == pytest.approx(float(torch.stack(hits).mean()), abs=1e-6)


def test_the_plain_recipe_only_trains_and_a_second_call_returns_the_same(tuned, tmp_path):
    first = job(tmp_path / "run", tuned, {})
    stamp = (tmp_path / "run" / "encoder" / "encoder.safetensors").stat().st_mtime_ns
    assert "compression" not in read_card(tmp_path / "run")
    again = job(tmp_path / "run", tuned, {})
    assert again == first and (tmp_path / "run" / "encoder" / "encoder.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(ConfigError, match="with other settings"):
        job(tmp_path / "run", tuned, W4)
    with pytest.raises(ConfigError, match="with other settings"):
        job(tmp_path / "run", tuned, {}, lr=0.1)


class Killed(BaseException):
    """Stands for SIGKILL."""


# Lightning takes a run with max_steps for one that was stopped within an epoch, and adds a step to a finished one.


# 3 batches an epoch, 6 steps of shaping
@pytest.mark.parametrize(("name", "at"), [("pruned", 5), ("pruned", 11), ("zeros", 11)])
def test_a_killed_run_goes_on_to_the_same_bits(name, at, tuned, tmp_path, monkeypatch):
    straight = job(tmp_path / "straight", tuned, RECIPES[name], labels=1.0)
    real, count = Distill.training_step, 0

    def killing(self, *arguments):
        nonlocal count
        count += 1
        if count == at:
            raise Killed
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Distill, "training_step", killing)
        with pytest.raises(Killed):
            job(tmp_path / "killed", tuned, RECIPES[name], labels=1.0)
    assert (tmp_path / "killed" / "shape" / "encoder").exists() == (at > 6)
    continued = job(tmp_path / "killed", tuned, RECIPES[name], labels=1.0)
    assert continued == straight
    for load in (load_encoder, load_head):
        a, b = (load(tmp_path / folder).state_dict() for folder in ("straight", "killed"))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_the_student_may_see_fewer_points(tuned, tmp_path):
    result = job(tmp_path / "few", tuned, W4, points=8)
    assert read_card(tmp_path / "few")["input"]["num_points"] == 8
    again = job(tmp_path / "few", tuned, W4, points=8)
    assert again["test"] == result["test"] and 0 <= result["test"]["after"] <= 1
    with pytest.raises(ConfigError, match="points=17"):
        job(tmp_path / "many", tuned, W4, points=17)


def test_fewer_points_are_the_first_of_those_that_were_there():
    data = blobs(num_points=12, normalize="none")
    few, all_points = (next(iter(each.loader("train"))) for each in (data.of_points(8), data))
    assert torch.equal(few.pos, first_points(all_points, 8).pos) and few.num_points == 8
    with pytest.raises(CloudError, match="17"):
        first_points(all_points, 17)


@pytest.mark.parametrize("with_head", [False, True])
def test_every_setting_of_an_adaptive_encoder_has_its_worth(with_head, plain, tuned, tmp_path):
    result = job(tmp_path, tuned if with_head else plain, ADAPTIVE)
    encoder, chosen = load_encoder(tmp_path), read_card(tmp_path)["settings"]
    assert list(chosen) == [str(setting) for setting in encoder.settings] == list(result["settings"])
    assert all(-1 <= value <= 1 for value in chosen.values())
    if not with_head:
        assert chosen[str(encoder.settings[0])] == pytest.approx(1)


def test_the_head_learns_in_the_second_training_too(tuned, tmp_path):
    job(tmp_path, tuned, {"prune": ZEROS["prune"]}, labels=1.0)
    before, after = load_head(tuned).state_dict(), load_head(tmp_path).state_dict()
    assert all(not torch.equal(before[key], after[key]) for key in before if key.endswith("weight"))


def test_shaping_takes_its_own_number_of_steps(plain, tmp_path):
    job(tmp_path, plain, ZEROS, trainer=TRAINER | {"max_epochs": 1}, shaping_steps=7)
    assert len((tmp_path / "shape" / "metrics.csv").read_text().splitlines()) == 1 + 3  # 7 steps are 3 epochs of 3
    assert json.loads((tmp_path / "training.json").read_text())["epochs"] == 1


def test_the_data_module_and_the_checkpoint_stay_as_they_were(tuned, tmp_path):
    data = blobs(label_fraction=0.5)
    before = data.training
    state = load_encoder(tuned).state_dict()
    job(tmp_path, tuned, W4, data, labels=1.0)
    assert torch.equal(data.training, before) and data.phase == "pretrain"
    assert all(torch.equal(value, state[key]) for key, value in load_encoder(tuned).state_dict().items())


def test_what_cannot_be_compressed_is_refused_before_anything_is_written(plain, tuned, tmp_path):
    done = save_encoder(forms.calibrate(forms.quantize(dgcnn()), blobs().loader("train")), tmp_path / "done")
    for checkpoint, recipe, keywords, message in (
        (done, W4, {}, "is compressed already .quantize."),
        (plain, W4, {"labels": 1.0}, "labels: the checkpoint has no head"),
        (tmp_path / "nowhere", W4, {}, "no such folder"),
        (plain, {"quantise": {}}, {}, "recipe.quantise: no such step"),
        (plain, {"quantize": {"bits": 4}}, {}, "quantize takes no 'bits'"),
        (plain, W4, {"draws": 0}, "compress.draws: 0 is not an int from 1"),
        (plain, ZEROS, {"shaping_steps": 0}, "compress.shaping_steps: 0 is not an int from 1"),
    ):
        with pytest.raises((ConfigError, CheckpointError), match=message) as raised:
            job(tmp_path / "run", checkpoint, recipe, **keywords)
        assert "\n" not in str(raised.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["ssg", "pointnet"])
def test_other_encoders(name, tmp_path):
    with seeded("other"):
        encoder = {
            "ssg": lambda: PointNet2(
                num_samples=(8, 4), radii=(0.4, 0.8), num_neighbors=(4, 6), channels=((8, 16), (16, 24), (24, 32))
            ),
            "pointnet": lambda: PointNet(embedding=16, width=0.125),
        }[name]()
    for batch in blobs().loader("train", batch_size=8):
        encoder.train()(batch)
    save_encoder(encoder, tmp_path / "encoder")
    recipe = {"structure": {"min_channels": 8}} | W4
    job(tmp_path / "run", tmp_path / "encoder", recipe)
    assert steps(tmp_path / "run") == list(recipe)


OBJECTIVES = {"info_nce": objectives.InfoNCE, "byol": objectives.BYOL}


@pytest.mark.parametrize(
    ("name", "objective"),
    [("structured", "byol"), ("zeros", "info_nce"), ("adaptive", "info_nce"), ("soft", "byol")],
)
def test_pretraining_in_compressed_form_from_the_start(name, objective, tmp_path):
    recipe = {"soft": {"prune": {"kept": 0.6, "shrink_output": True}}, **RECIPES}[name]
    keywords = {"projector": (16, 8), "trainer": TRAINER, "recipe": recipe, "average": 0.9 * (objective == "byol")}
    pretrain(dgcnn(), OBJECTIVES[objective](), SO3(), blobs(), out=tmp_path, **keywords)
    encoder = load_encoder(tmp_path)
    assert steps(tmp_path) == list(recipe) and forms.penalty(encoder) is None
    assert json.loads((tmp_path / "settings.json").read_text())["recipe"] == json.loads(json.dumps(recipe))
    if "structure" in recipe:
        assert encoder.layers[1].linear.weight.shape == (16, 16) and encoder.embed.weight.shape == (16, 16)
    features = encoder(collate([blobs().prepared("test")[i] for i in range(4)])).cloud
    assert bool(features.isfinite().all()) and float(features.std(0).detach().max()) > 0


@pytest.mark.parametrize("name", ["structured", "soft"])
def test_finetuning_in_compressed_form(name, plain, tmp_path):
    recipe = {"soft": {"prune": {"kept": 0.6, "shrink_output": True}}, **RECIPES}[name]
    metrics = finetune(blobs(), out=tmp_path, checkpoint=plain, recipe=recipe, trainer=TRAINER)
    assert steps(tmp_path) == list(recipe) and 0 <= metrics["test"]["accuracy"] <= 1
    encoder, head = load_encoder(tmp_path), load_head(tmp_path)
    with torch.no_grad():
        right = [head(encoder(batch).cloud).argmax(1) == batch.y for batch in blobs().loader("test")]
    assert metrics["test"]["accuracy"] == pytest.approx(float(torch.cat(right).float().mean()), abs=1e-6)


@pytest.mark.parametrize("recipe", [PRUNED, REGULAR])
def test_shapes_that_change_at_the_end_cannot_be_rounded_from_the_start(recipe, plain, tmp_path):
    with pytest.raises(ConfigError, match="is not finalized .* geo3d compress"):
        finetune(blobs(), out=tmp_path / "run", checkpoint=plain, recipe=recipe, trainer=TRAINER)
    assert not (tmp_path / "run").exists()


def test_compressed_checkpoints_are_probed_and_fine_tuned(plain, tmp_path):
    job(tmp_path / "small", plain, STRUCTURED)
    metrics = probe(tmp_path / "small", blobs(size=36), out=tmp_path / "probe", shots=0, seeds=1)
    assert 0 <= metrics["floor"]["mean"] <= 1 and 0 <= metrics["result"]["mean"] <= 1
    finetune(blobs(), out=tmp_path / "tuned", checkpoint=tmp_path / "small", trainer=TRAINER)
    assert steps(tmp_path / "tuned") == ["structure", "quantize"]
    with pytest.raises(ConfigError, match="already been through quantize"):
        finetune(blobs(), out=tmp_path / "twice", checkpoint=tmp_path / "small", recipe=W4, trainer=TRAINER)


def said(words, capsys):
    assert main(words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("geo3d: error: "), lines
    return lines[0]


def test_help_names_the_recipes_and_options(capsys):
    assert main(["compress", "--help"]) == 0
    printed = capsys.readouterr().out
    for word in ("recipe", "w4a4_structured", "w8a8_pruned", "adaptive", "checkpoint", "labels", "shaping_steps"):
        assert word in printed, word


WORDS = ["checkpoint=nowhere", "out=unwritten"]


def test_the_configuration_is_printed_with_its_overrides(capsys):
    assert main(["compress", *WORDS, "recipe.structure.reduction=3", "--cfg"]) == 0
    printed = capsys.readouterr().out
    assert "reduction: 3" in printed and "weights: 4" in printed
    assert main(["pretrain", "recipe=w8a8", "recipe.encoder.k=10", "out=unwritten", "--cfg"]) == 0
    assert "weights: 8" in capsys.readouterr().out
    assert main(["finetune", "checkpoint=nowhere", "out=unwritten", "--cfg"]) == 0
    assert "quantize" not in capsys.readouterr().out


@pytest.mark.parametrize("recipe", choices("recipe"))
def test_every_recipe_that_is_delivered_fits(recipe):
    content = yaml.safe_load((config_dir() / "recipe" / f"{recipe}.yaml").read_text())
    assert content and list(recipe_mistakes(content)) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["recipe=w4a5"], "no such recipe; did you mean 'w4a8'?"),
        (["recipe.quantise.weights=4"], "recipe.quantise: no such step; a recipe has encoder, structure"),
        (["recipe.quantize.weight=4"], "recipe.quantize.weight: quantize takes no 'weight'"),
        (["recipe.structure.moments=1"], "structure takes no 'moments'"),
        (["recipe.quantize.weights=four"], "recipe.quantize.weights: 'four' is not an int"),
        (["recipe.structure.reduction=much"], "recipe.structure.reduction: 'much' is not a float"),
        (["recipe.structure.permute=3"], "recipe.structure.permute: 3 is not a bool"),
        (["recipe.quantize.layers=3"], "recipe.quantize.layers: 3 is not a mapping"),
        (["recipe=w8a8", "recipe.quantize=8"], "recipe.quantize: expected keywords of quantize"),
        (["recipe=w8a8", "recipe.quantize.weights=9"], "recipe.quantize.weights: 9 is not an int from 2 to 8"),
        (["recipe=w8a8", "recipe.quantize.layers={embd: [4, 4]}"], "found embd: [4, 4]"),
        (["recipe=null"], "recipe: a value is needed; give recipe=NAME (adaptive, none, pruned2"),
        (["recipe=w8a8", "recipe.encoder.k=many"], "recipe.encoder"),
        (["labels=1"], "labels: the checkpoint has no head"),
        (["label=1"], "did you mean 'labels'?"),
    ],
)
def test_mistakes_are_one_line(words, expected, plain, tmp_path, capsys):
    quick = ["data=shapes", "data.size=12", "data.num_points=16", "trainer=cpu", "trainer.max_steps=1"]
    line = said(["compress", f"checkpoint={plain}", *quick, *words, f"out={tmp_path / 'run'}"], capsys)
    assert expected in line


def test_the_command_compresses(plain, tmp_path, capsys):
    quick = ["data.size=12", "data.num_points=16", "data.batch_size=4", "trainer=cpu", "trainer.max_steps=2"]
    words = ["compress", f"checkpoint={plain}", "recipe=w4a8", "recipe.encoder.dynamic=false", "draws=1"]
    assert main([*words, *quick, "trainer.progress=false", f"out={tmp_path / 'run'}"]) == 0
    assert "similarity" in capsys.readouterr().out
    assert steps(tmp_path / "run") == ["quantize"] and load_encoder(tmp_path / "run").dynamic is False
