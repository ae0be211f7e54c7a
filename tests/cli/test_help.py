import ast
import re

import pytest

from geo3d.checks import parameters
from geo3d.cli.config import choices, config_dir, jobs, read
from geo3d.cli.help import as_value, overview, row, summary, usage
from geo3d.cli.source import named, options


def test_every_command_has_a_summary_and_is_listed():
    for name in jobs():
        assert summary(config_dir() / f"{name}.yaml").endswith(".")
        assert f"  {name}" in overview()


@pytest.mark.parametrize("command", ["pretrain", "probe", "finetune", "embed", "demo"])
def test_help_lists_every_keyword_of_the_job(command):
    import geo3d.jobs

    text = usage(command, [])
    for name in parameters(getattr(geo3d.jobs, command)):
        assert f"  {name}=" in text or f"  {name}." in text, name


def test_help_lists_the_choices_of_each_group_behind_its_name():
    shown = usage("pretrain", ["encoder=pointnet"]).partition("choices (* is chosen)\n")[2].partition("objective=")[0]
    assert shown.split() == ["encoder=", *(f"*{n}" if n == "pointnet" else n for n in choices("encoder"))]


def test_help_lists_the_protocols():
    from geo3d.probes.protocols import PROTOCOLS

    assert named("geo3d.probes.protocols") == list(PROTOCOLS)
    assert f"One of {', '.join(PROTOCOLS)}." in " ".join(usage("probe", []).split())


def test_help_is_free_of_markup():
    for command, group in (("pretrain", "encoder"), ("pretrain", "objective"), ("finetune", "encoder")):
        for name in choices(group):
            assert not re.search(r"`|:(func|class|meth):", usage(command, [f"{group}={name}"])), name


def test_a_command_on_a_file_shows_both_ways_to_call_it():
    first, second = usage("embed", []).splitlines()[:2]
    assert first == "usage: geo3d embed cloud=FILE [KEY=VALUE ...]"
    assert second == "       geo3d embed data=NAME data.root=PATH [KEY=VALUE ...]"


def test_options_of_training_are_shown_where_they_do_something():
    shown = {command: usage(command, ["data=folder"]) for command in ("pretrain", "finetune", "embed", "probe")}
    assert [command for command in shown if "data.holdout" in shown[command]] == ["pretrain"]
    assert [command for command in shown if "data.label_fraction" in shown[command]] == ["finetune"]


def test_choices_on_the_line_select_the_options_shown():
    assert "encoder.input_transform=true" in usage("pretrain", ["encoder=pointnet"])
    assert "encoder.input_transform" not in usage("pretrain", ["encoder=pointnet2"])
    assert re.search(r"\*pointnet\s", usage("pretrain", ["encoder=pointnet"]))


def test_the_source_says_what_the_signature_says():
    from geo3d.tasks.trainer import make_trainer

    read_off = {option.name: option.default for option in options("geo3d.tasks.trainer.make_trainer")}
    for name, parameter in parameters(make_trainer).items():
        if parameter.default is parameter.empty:
            assert read_off.pop(name) is None
        else:
            assert ast.literal_eval(read_off.pop(name)) == parameter.default
    assert read_off == {}


def test_the_source_of_what_is_not_there_is_empty():
    assert options("") == options("geo3d.nowhere.X") == options("torch.nn.Linear") == []


def test_every_choice_is_found_in_the_source():
    for group in ("encoder", "objective", "data", "task"):
        for name in choices(group):
            target = read(config_dir() / group / f"{name}.yaml")["_target_"]
            assert options(target) or name == "byol", target


def test_values_are_written_as_on_the_command_line():
    assert [as_value(text) for text in ("True", "3", "'z'", "()", "Classify")] == ["true", "3", "z", "[]", "Classify"]


def test_a_row_has_two_columns_unless_the_left_one_is_too_long(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    words = "some words that fill more than a line of forty letters"
    assert list(row("k=20", words, 20)) == [
        "  k=20              some words that fill more than a line of",
        " " * 20 + "forty letters",
    ]
    assert list(row("x" * 16, "word", 20)) == ["  " + "x" * 16 + "  word"]
    assert list(row("x" * 17, "word", 20)) == ["  " + "x" * 17, " " * 20 + "word"]
    assert list(row("k=20", "", 20)) == ["  k=20"]


def test_options_of_the_same_name_have_their_own_texts():
    assert "strict_logistic" in usage("probe", [])
    of_parts = usage("finetune", ["task=segment"])
    assert "strict_logistic" not in of_parts and "task.protocol=restricted" in of_parts
