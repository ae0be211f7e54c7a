"""Names of files and folders: one meaning of ``~``, and no name becomes a number."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from torch import nn

from geo3d.checks import parameters
from geo3d.cli.__main__ import main
from geo3d.cli.bench import parsed
from geo3d.cli.check import settled
from geo3d.cli.export import parsed as parsed_export
from geo3d.cli.words import split, value_of

NAMES = ["20240501", "1_1_1", "1e3", "2024", "true", "007", ".5", "nan", "0x10", "1e999", "no", "1.0"]


def job(
    checkpoint: str | Path | Sequence[str | Path],
    data: Any = None,
    *,
    out: str | Path,
    path: str | Path | None = None,
    checkpoints: Mapping[str, str | Path] | None = None,
    encoder: nn.Module | None = None,
    protocol: str = "strict",
    seed: int = 0,
) -> None: ...


def settle(*words):
    config: dict[str, Any] = {}
    for word in words:
        *outer, key = split(word)[0].split(".")
        place = config
        for name in outer:
            place = place.setdefault(name, {})
        place[key] = value_of(word)
    return settled(config, parameters(job), dict(map(split, words)))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_what_was_written(name):
    assert settle(f"out={name}", f"path={name}", f"protocol={name}", f"checkpoint={name}", f"checkpoints.a={name}") == {
        "out": name, "path": name, "protocol": name, "checkpoint": name, "checkpoints": {"a": name},
    }  # fmt: skip
    assert settle(f"checkpoint=[{name},x, '{name}']")["checkpoint"] == [name, "x", name]


def test_numbers_stay_numbers_and_nothing_stays_nothing():
    assert settle("seed=7", "out=null", "path=null") == {"seed": 7, "out": None, "path": None}


def test_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home-of")
    found = settle("out=~/x", "path=~", "checkpoint=[~/a,b]", "checkpoints.a=~/c", "protocol=~/p")
    assert found == {
        "out": "/home-of/x", "path": "/home-of", "checkpoint": ["/home-of/a", "b"], "checkpoints": {"a": "/home-of/c"},
        "protocol": "~/p",
    }  # fmt: skip
    model = parsed(["checkpoint=[~/a,~/b]", "out=~/c"])
    assert (model.checkpoint, model.out) == (["/home-of/a", "/home-of/b"], "/home-of/c")
    assert parsed_export(["checkpoint=~/a", "out=~/1.onnx"]) == {"checkpoint": "/home-of/a", "out": "/home-of/1.onnx"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder and a working folder with some clouds, both to be looked into afterwards."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work" / "2024").mkdir(parents=True)
    for i in range(6):
        np.savez(tmp_path / "work" / "2024" / f"{i}.npz", pos=np.random.default_rng(i).normal(size=(24, 3)))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


WORDS = [
    "pretrain", "data=folder", "data.root=2024", "data.num_points=16", "data.batch_size=4", "encoder.k=4", "seed=3",
    "encoder.channels=[8]", "encoder.embedding=8", "projector=[8,8]", "trainer=cpu", "trainer.max_steps=1",
    "trainer.progress=false",
]  # fmt: skip


@pytest.mark.parametrize(
    ("out", "place"), [("~/run", "home/run"), ("20240501", "work/20240501"), ("1_1_1", "work/1_1_1")]
)
def test_a_run_lies_in_one_place(out, place, home):
    assert main([*WORDS, f"out={out}"]) == 0
    made = {path.name for path in (home / place).iterdir()}
    assert {
        "config.yaml",
        "settings.json",
        "metrics.csv",
        "metrics.json",
        "encoder",
        "checkpoints",
        "tensorboard",
    } <= made
    assert {path.name for path in (home / "work").iterdir()} == {"2024"} | (
        {out} if place.startswith("work") else set()
    )
    assert len(list((home / "home").iterdir())) == place.startswith("home")
    config = yaml.safe_load((home / place / "config.yaml").read_text())
    assert config["data"]["root"] == "2024" and config["out"] == (str(home / place) if "~" in out else out)


@pytest.mark.parametrize("out", ["file", "file/run", "file/run/x", "null", "", "/dev/null/x"])
def test_a_place_that_can_be_no_folder_is_the_users_mistake(out, home, capsys):
    (home / "work" / "file").write_text("kept")
    for command in (WORDS, ["demo"], ["embed", "cloud=0.npz", "checkpoint=x"], ["export", "checkpoint=x"]):
        assert main([*command, f"out={out}"]) == 2, command
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("geo3d: error: ") and "fault" not in line
    assert (home / "work" / "file").read_text() == "kept"


@pytest.mark.parametrize(
    "words",
    [
        ["pretrain", "data=shapes", "out={}"],
        ["finetune", "task=classify", "data=folder", "data.root={}", "out=o"],
        ["probe", "checkpoint=[a,{}]", "data=shapes", "out=o"],
        ["data", "check", "folder", "root={}"],
        ["export", "checkpoint={}", "out=a.onnx"],
        ["bench", "checkpoint=a", "out={}"],
        ["bench", "checkpoint=[a,{}]"],
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_the_home_folder_of_nobody_is_no_place(words, home, capsys):
    nobody = "~nobody-of-that-name/x"
    assert main([word.format(nobody) for word in words]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{nobody}: expected ~ or a user of this machine" in said
    assert [path.name for path in Path.cwd().iterdir()] == ["2024"]
