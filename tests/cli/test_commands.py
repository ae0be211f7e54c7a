"""The whole way through the real command line, on generated shapes small enough for a test."""

import json

import numpy as np
import pytest
import torch
import yaml

import geo3d.jobs
from geo3d.checkpoint import load_encoder
from geo3d.checks import parameters
from geo3d.cli.__main__ import main
from geo3d.cli.build import build
from geo3d.cli.check import check, check_value
from geo3d.cli.config import choices, compose, config_dir, read
from geo3d.data.shapes import CLASSES

DATA = [
    "data=shapes",
    "data.size=40",
    "data.num_points=64",
    "data.batch_size=16",
    f"data.classes=[{','.join(CLASSES[:2])}]",
]
SMALL = ["encoder=dgcnn", "encoder.k=4", "encoder.channels=[8,8]", "encoder.embedding=16"]
ONE_EPOCH = ["trainer=cpu", "trainer.max_epochs=1", "trainer.progress=false"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    out = tmp_path_factory.mktemp("pretrain")
    words = ["pretrain", *SMALL, *DATA, *ONE_EPOCH, "projector=[16,8]", "invariance=z", "seed=3", f"out={out}"]
    assert main(words) == 0
    return out


def test_pretraining_leaves_a_run_folder(pretrained):
    config = yaml.safe_load((pretrained / "config.yaml").read_text())
    assert config["encoder"]["k"] == 4
    assert config["seed"] == 3
    assert json.loads((pretrained / "metrics.json").read_text())["epochs"] == 1
    encoder = load_encoder(pretrained / "encoder")
    assert (encoder.k, encoder.channels) == (4, (8, 8))


def test_a_run_with_other_settings_is_not_continued(pretrained, capsys):
    words = ["pretrain", *SMALL, *DATA, *ONE_EPOCH, "projector=[16,8]", "invariance=z", "seed=4", f"out={pretrained}"]
    assert main(words) == 2
    assert "holds a run with other settings (seed=3 there, 4 here)" in capsys.readouterr().err


def test_the_same_command_gives_the_same_encoder(pretrained, tmp_path):
    words = ["pretrain", *SMALL, *DATA, *ONE_EPOCH, "projector=[16,8]", "invariance=z", "seed=3", f"out={tmp_path}"]
    assert main(words) == 0
    first, second = (load_encoder(folder / "encoder").state_dict() for folder in (pretrained, tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_probing(pretrained, tmp_path, capsys):
    words = [f"checkpoint={pretrained / 'encoder'}", *DATA, "data.rotation=so3", "seeds=1", "shots=2", "draws=1"]
    assert main(["probe", *words, f"out={tmp_path}"]) == 0
    assert str(tmp_path / "metrics.json") in capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["rotation"] == "so3"
    assert 0 <= metrics["result"]["mean"] <= 1


def test_fine_tuning(pretrained, tmp_path, capsys):
    words = ["task=classify", "task.hidden=[8]", f"checkpoint={pretrained / 'encoder'}", "data.label_fraction=0.5"]
    assert main(["finetune", *DATA, *words, *ONE_EPOCH, f"out={tmp_path}"]) == 0
    assert "test.accuracy" in capsys.readouterr().out
    assert not json.loads((tmp_path / "metrics.json").read_text())["from_scratch"]


def test_training_from_scratch(tmp_path):
    assert main(["finetune", *SMALL, *DATA, *ONE_EPOCH, "task.hidden=[8]", f"out={tmp_path}"]) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["from_scratch"]


def test_embedding_a_data_set(pretrained, tmp_path):
    assert main(["embed", f"checkpoint={pretrained / 'encoder'}", *DATA, f"out={tmp_path}"]) == 0
    with np.load(tmp_path / "features.npz") as features:
        assert features["train"].shape == (40, load_encoder(pretrained / "encoder").cloud_channels)


def test_embedding_a_file(pretrained, tmp_path):
    cloud = tmp_path / "a cloud, mine.xyz"
    np.savetxt(cloud, np.random.default_rng(0).standard_normal((80, 3)))
    assert main(["embed", f"checkpoint={pretrained / 'encoder'}", f"cloud={cloud}", f"out={tmp_path / 'run'}"]) == 0
    with np.load(tmp_path / "run" / "features.npz") as features:
        assert features["cloud"].shape[0] == 1


def test_a_checkpoint_that_is_not_there(tmp_path, capsys):
    assert main(["probe", "checkpoint=/nowhere/encoder", *DATA, f"out={tmp_path}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("group", ["encoder", "objective", "invariance", "data", "task", "trainer"])
def test_every_choice_is_accepted_and_built(group, tmp_path):
    job = geo3d.jobs.finetune if group == "task" else geo3d.jobs.pretrain
    for name in choices(group):
        config = read(config_dir() / group / f"{name}.yaml")
        config |= {key: str(tmp_path) for key, value in config.items() if value == "???"}
        assert list(check_value(config, parameters(job)[group].annotation, group)) == []
        assert list(build({group: config})) == [group]


@pytest.mark.parametrize("command", ["pretrain", "probe", "finetune", "embed", "demo"])
def test_the_defaults_of_every_command_fit_its_job(command, tmp_path):
    needed = {"out": str(tmp_path), "checkpoint": "x"}
    config = compose(command, [])
    check({key: needed.get(key, value) for key, value in config.items()}, getattr(geo3d.jobs, command), command)
