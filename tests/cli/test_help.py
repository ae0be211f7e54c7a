import ast

import pytest

from geo3d.cli.check import parameters
from geo3d.cli.config import choices, config_dir, jobs, read
from geo3d.cli.help import as_value, overview, summary, usage
from geo3d.cli.source import options


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


def test_choices_on_the_line_select_the_options_shown():
    assert "encoder.input_transform=true" in usage("pretrain", ["encoder=pointnet"])
    assert "encoder.input_transform" not in usage("pretrain", ["encoder=pointnet2"])
    assert "*pointnet " in usage("pretrain", ["encoder=pointnet"])


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
