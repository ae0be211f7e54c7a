import re

import pytest
import yaml

from geo3d.cli.config import choices, compose, config_dir, defaults, jobs, override, record
from geo3d.cli.words import quoted
from geo3d.errors import ConfigError


def test_commands_and_choices_are_the_files():
    assert set(jobs()) >= {"pretrain", "probe", "finetune", "embed", "demo"}
    assert set(choices("encoder")) >= {"dgcnn", "pointnet", "pointnet2"}
    assert choices("nothing") == []
    assert defaults("pretrain")["encoder"] == "dgcnn"


def test_defaults_choices_and_values_are_composed():
    config = compose("pretrain", ["encoder=pointnet2_msg", "data=modelnet", "data.root=/some where/a,b", "lr=3e-4"])
    assert config["encoder"] == {"_target_": "geo3d.encoders.PointNet2", "scales": "msg"}
    assert config["data"]["root"] == "/some where/a,b"
    assert config["lr"] == pytest.approx(3e-4)
    assert config["out"] == "???"


def test_a_choice_does_not_undo_the_value_before_it():
    assert compose("pretrain", ["encoder.k=7", "encoder=dgcnn"])["encoder"]["k"] == 7


def test_a_choice_can_be_taken_back():
    assert "encoder" not in compose("pretrain", ["encoder=null"])
    assert "encoder" not in compose("finetune", ["encoder=null"])


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("00:00:20:00", "00:00:20:00"),
        ("/data/it's here", "/data/it's here"),
        ("C:\\clouds\\", "C:\\clouds\\"),
        ("été (1)", "été (1)"),
        ("10,20", "10,20"),
        ("[10,20]", [10, 20]),
        ("true", True),
        ("null", None),
        ("1e-3", 0.001),
        ("", ""),
        ("a=b", "a=b"),
    ],
)
def test_values_are_read_as_they_are_written(written, value):
    assert compose("pretrain", [f"data.thing={written}"])["data"]["thing"] == value


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("encoder=dgcn", r"encoder=dgcn: no such encoder; did you mean 'dgcnn'\?"),
        ("encoder=resnet", "no such encoder; there are dgcnn, "),
        ("k", "k: expected KEY=VALUE"),
        ("--seed=1", "--seed=1: expected KEY=VALUE"),
        ("+a=1", "expected KEY=VALUE"),
        ("a.=1", "expected KEY=VALUE"),
        ("projector=[1,", r"projector=\[1,: its value cannot be understood; a list is written as in projector=\[1,2\]"),
        ("data.size=[", r"data.size=\[: its value cannot be understood"),
        ("out=${nowhere}", "pretrain: "),
    ],
)
def test_words_that_cannot_be_understood_are_one_line(word, message):
    with pytest.raises(ConfigError, match=message) as raised:
        compose("pretrain", [word])
    assert "\n" not in str(raised.value)


def test_a_group_of_another_command_is_an_ordinary_key():
    assert override("encoder=dgcnn", defaults("probe")) == "++encoder=dgcnn"


def test_quoting_leaves_structures_alone():
    assert [quoted(value) for value in ("[1]", "{a: 1}", "'x y'", "${out}")] == ["[1]", "{a: 1}", "'x y'", "${out}"]


def test_an_experiment_holds_differences_only(tmp_path, monkeypatch):
    for path in config_dir().rglob("*.yaml"):
        copy = tmp_path / path.relative_to(config_dir())
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    (tmp_path / "experiment").mkdir(exist_ok=True)
    (tmp_path / "experiment" / "small.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /encoder: pointnet\n  - override /objective: vicreg\n"
        "lr: 0.5\ndata:\n  num_points: 64\n"
    )
    monkeypatch.setattr("geo3d.cli.config.config_dir", lambda: tmp_path)
    config = compose("pretrain", ["experiment=small", "data.num_points=32"])
    assert config["encoder"]["_target_"] == "geo3d.encoders.PointNet"
    assert config["objective"]["_target_"] == "geo3d.objectives.VICReg"
    assert (config["lr"], config["data"]["num_points"]) == (0.5, 32)
    assert compose("pretrain", ["experiment=small", "encoder=dgcnn"])["encoder"]["_target_"] == "geo3d.encoders.DGCNN"


def test_the_configuration_is_kept_and_another_one_is_refused(tmp_path):
    config = {"encoder": {"k": 20}, "lr": 0.1, "trainer": {"max_epochs": 1}, "out": str(tmp_path / "run")}
    record("pretrain", config)
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()) == config
    changed = config | {"encoder": {"k": 16}}
    record("pretrain", changed)  # nothing has been run there yet
    (tmp_path / "run" / "manifest.json").write_text("{}")
    record("pretrain", changed | {"lr": 0.2})  # it has failed before it made anything
    record("pretrain", changed)
    (tmp_path / "run" / "metrics.json").write_text("{}")
    record("pretrain", changed | {"trainer": {"max_epochs": 9}})
    with pytest.raises(ConfigError, match=r"run: holds a run with other settings \(encoder.k=16 there, 20 here\)"):
        record("pretrain", config)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.yaml", "manifest.json", "metrics.json"}


@pytest.mark.parametrize("made", ["checkpoints/last.ckpt", "encoder/encoder.json", "metrics.json"])
def test_what_a_run_has_made_is_not_overwritten(made, tmp_path):
    config = {"seed": 1, "out": str(tmp_path)}
    record("pretrain", config)
    (tmp_path / made).parent.mkdir(exist_ok=True)
    (tmp_path / made).write_text("")
    with pytest.raises(ConfigError, match=r"other settings \(seed=1 there, 2 here\)"):
        record("pretrain", config | {"seed": 2})


def test_what_was_not_said_has_the_value_of_the_signature(tmp_path):
    config = {"encoder": {"_target_": "geo3d.encoders.DGCNN"}, "out": str(tmp_path)}
    record("pretrain", config)
    (tmp_path / "metrics.json").write_text("{}")
    record("pretrain", config | {"lr": 0.001, "projector": [512, 128]})
    record("pretrain", config)
    for change, said in (
        ({"lr": 0.01}, "lr=0.001 there, 0.01 here"),
        ({"projector": [8]}, "projector=[512,128] there, [8] here"),
        ({"encoder": config["encoder"] | {"k": 7}}, "encoder.k=20 there, 7 here"),
        ({"thing": None}, "thing=not given there, null here"),
    ):
        with pytest.raises(ConfigError, match=re.escape(f"({said})")):
            record("pretrain", config | change)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"a: [1,\n", "line 2 is not YAML"), (b"\xff\xfe\x00", "not YAML"), (b"half", "not a mapping")],
)
def test_a_damaged_record_is_named(content, reason, tmp_path):
    (tmp_path / "config.yaml").write_bytes(content)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(ConfigError, match=f"config.yaml is damaged .*{reason}.*; delete it, or give another out=DIR"):
        record("pretrain", {"out": str(tmp_path)})
    assert (tmp_path / "config.yaml").read_bytes() == content


def test_a_file_in_the_place_of_the_run_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match="no folder can be made there"):
        record("pretrain", {"out": str(tmp_path / "run")})
