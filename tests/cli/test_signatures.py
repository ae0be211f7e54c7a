from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from geo3d.checks import fits
from geo3d.cli.build import build, build_value
from geo3d.cli.check import check, locate
from geo3d.encoders import DGCNN
from geo3d.errors import ConfigError
from geo3d.invariance import Invariance


def job(
    encoder: nn.Module,
    *,
    out: str | Path,
    seed: int = 0,
    lr: float = 1e-3,
    sizes: Sequence[int] = (1, 2),
    mode: Literal["strict", "loose"] = "strict",
    path: str | None = None,
    fast: bool = False,
    pairs: Sequence[Sequence[int]] = (),
    names: str | Path | Sequence[str | Path] = "x",
    task: Callable[..., Any] | None = None,
    invariance: Invariance | None = None,
    trainer: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {"encoder": encoder, "sizes": sizes, "task": task}


GOOD = {
    "encoder": {"_target_": "geo3d.encoders.DGCNN", "k": 4, "channels": [8], "embedding": 8},
    "out": "runs/x",
    "trainer": {"max_epochs": 1},
}


def mistakes(**changes):
    with pytest.raises(ConfigError) as raised:
        check(GOOD | changes, job, "job")
    return str(raised.value).splitlines()


def test_what_fits_passes():
    check(GOOD, job, "job")
    check(GOOD | {"lr": 1, "sizes": [3], "mode": "loose", "path": None, "fast": True}, job, "job")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encodr": 1}, "encodr: geo3d job takes no 'encodr'; did you mean 'encoder'?"),
        ({"lr": "abc"}, "lr: 'abc' is not a float"),
        ({"seed": 1.5}, "seed: 1.5 is not an int"),
        ({"seed": True}, "seed: True is not an int"),
        ({"fast": 1}, "fast: 1 is not a bool"),
        ({"sizes": [1, "b"]}, "sizes: [1, 'b'] is not a list of int"),
        ({"sizes": "1,2"}, "sizes: '1,2' is not a list of int"),
        ({"mode": "stict"}, "mode: 'stict' is not 'strict' or 'loose'"),
        ({"path": 3}, "path: 3 is not a str or null"),
        ({"out": "???"}, "out: a value is needed; give out=DIR"),
        ({"path": ""}, "path: a value is needed; give path=FILE"),
        ({"pairs": [5, 10]}, "pairs: [5, 10] is not a list of lists of int, for example [[5,10]]"),
        ({"names": 3}, "names: 3 is not a str or a list of str"),
        ({"lr": {"a": 1}}, "lr: {'a': 1} is not a float"),
        ({"encoder": {"k": 3}}, "encoder: choose one before its options are set; give encoder=NAME (dgcnn, "),
        (
            {"encoder": GOOD["encoder"] | {"channel": 1}},
            "encoder.channel: geo3d.encoders.DGCNN takes no 'channel'; did you mean 'channels'?",
        ),
        (
            {"encoder": GOOD["encoder"] | {"zzzz": 1}},
            "encoder.zzzz: geo3d.encoders.DGCNN takes no 'zzzz'; it takes k, channels, ",
        ),
        ({"encoder": GOOD["encoder"] | {"dynamic": 3}}, "encoder.dynamic: 3 is not a bool"),
        ({"encoder": GOOD["encoder"] | {"k": 0}}, "encoder.k: 0 is not an int from 1 to 1024"),
        ({"encoder": GOOD["encoder"] | {"_k": 3}}, "encoder._k: geo3d.encoders.DGCNN takes no '_k'"),
        ({"_partial_": True}, "_partial_: geo3d job takes no '_partial_'"),
        (
            {"trainer": {"max_epoch": 3}},
            "trainer.max_epoch: the trainer takes no 'max_epoch'; did you mean 'max_epochs'?",
        ),
        ({"trainer": {"max_epochs": "many"}}, "trainer.max_epochs: 'many' is not an int from 1 to 1000000 or null"),
        ({"trainer": {"callbacks": []}}, "trainer.callbacks: the trainer takes no 'callbacks'"),
    ],
)
def test_every_mistake_is_one_line(changes, message):
    (line,) = mistakes(**changes)
    assert line.startswith(message)


def test_all_mistakes_are_told_at_once():
    assert len(mistakes(lr="x", seed="y", encoder={"_target_": "geo3d.encoders.DGCNN", "k": "???", "x": 1})) == 4


def test_a_missing_job_keyword_names_the_choices():
    with pytest.raises(ConfigError, match=r"encoder: a value is needed; give encoder=NAME \(dgcnn, .*pointnet"):
        check({"out": "x"}, job, "job")


@pytest.mark.parametrize(
    "target",
    [
        "os.system", "torch.hub.load", "torch.nn.Linear", "geo3d.seeds.np.array", "geo3d.nowhere.X", "X", "", 3, None,
        "geo3d.cli.__main__.main", "geo3d.compress.prune.prune", "geo3d.compress.structure._Recorder",
        "geo3d.encoders.dgcnn.Any", "geo3d.encoders.Émile", ["geo3d.encoders.DGCNN"],
    ],
)  # fmt: skip
def test_a_configuration_can_name_nothing_but_public_classes_of_geo3d(target):
    with pytest.raises(ConfigError, match="expected a class of geo3d"):
        locate(target)


SUBPROCESS = {"_target_": "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler"}


@pytest.mark.parametrize(
    "place", ["lr", "sizes", "mode", "path", "fast", "pairs", "names", "seed", "out", "trainer", "encoder", "task"]
)
@pytest.mark.parametrize("node", [SUBPROCESS, [SUBPROCESS], [[SUBPROCESS]], {"_target_": "geo3d.invariance.SO3"}])
def test_an_object_stands_only_where_its_class_is_asked_for(node, place):
    (line,) = mistakes(**{place: node})
    assert line.startswith(place)


@pytest.mark.parametrize(
    ("place", "target", "expected"),
    [
        ("encoder", "geo3d.heads.Predictor", "expected a class of geo3d.encoders"),
        ("encoder", "geo3d.objectives.BYOL", "expected a class of geo3d.encoders"),
        ("invariance", "geo3d.encoders.DGCNN", "expected a class of geo3d.invariance"),
        ("invariance", "geo3d.invariance.Kept", "expected a class of geo3d.invariance that is Invariance"),
        ("task", "geo3d.tasks.pretrain.Pretrain", "expected a class of geo3d.tasks.classify"),
    ],
)
def test_a_class_comes_from_where_the_choices_come_from(place, target, expected):
    assert expected in mistakes(**{place: {"_target_": target}})[0]


def test_options_of_data_belong_to_the_data_set_or_the_datamodule():
    data = {"_target_": "geo3d.data.ModelNet", "root": "x"}

    def with_data(encoder: nn.Module, data: Any, *, out: str, trainer: dict[str, Any]) -> None: ...

    check(GOOD | {"data": data | {"up": "z", "batch_size": 8, "num_points": 64}}, with_data, "job")
    for wrong, meant in {"batchsize": "batch_size", "rootx": "root"}.items():
        with pytest.raises(ConfigError, match=rf"data.{wrong}: geo3d.data.ModelNet takes no .*did you mean '{meant}'"):
            check(GOOD | {"data": data | {wrong: 1}}, with_data, "job")
    with pytest.raises(ConfigError, match=r"data.root: a value is needed; give data.root=PATH"):
        check(GOOD | {"data": data | {"root": "???"}}, with_data, "job")
    with pytest.raises(ConfigError, match="data.split"):
        check(GOOD | {"data": data | {"split": "test"}}, with_data, "job")


def test_a_task_leaves_out_what_the_job_gives_and_may_not_repeat_it():
    task = {"_target_": "geo3d.tasks.classify.Classify", "_partial_": True, "dropout": 0.1}
    check(GOOD | {"task": task}, job, "job")
    assert mistakes(task=task | {"lr": 0.1}) == ["task.lr: is an option of the command; give lr=0.1"]
    assert mistakes(task=task | {"droput": 0.1})[0].endswith("did you mean 'dropout'?")


def test_parts_of_a_list_are_checked_by_their_place():
    parts = [{"_target_": "geo3d.invariance.SO3"}, {"_target_": "geo3d.invariance.Jitter", "sdt": 1.0}]
    (line,) = mistakes(invariance={"_target_": "geo3d.invariance.Compose", "parts": parts})
    assert line.startswith("invariance.parts[1].sdt: geo3d.invariance.Jitter takes no 'sdt'")


def test_tuples_of_fixed_length():
    assert fits([1, 2.0], tuple[int, float])
    assert not fits([1], tuple[int, float])
    assert fits([1, 2, 3], tuple[int, ...])
    assert not fits([0.5], tuple[int, ...])
    assert fits([[5, 1], [5, 10]], Sequence[Sequence[int]])


def test_building_is_seeded_by_name_and_leaves_plain_values():
    keywords = build(GOOD | {"seed": 3, "sizes": [4, 5]})
    assert isinstance(keywords["encoder"], DGCNN)
    assert keywords["trainer"] == {"max_epochs": 1}
    assert keywords["sizes"] == [4, 5]
    again, other = build(GOOD | {"seed": 3, "task": GOOD["encoder"]}), build(GOOD | {"seed": 4})
    assert torch.equal(again["encoder"].embed.weight, keywords["encoder"].embed.weight)
    assert not torch.equal(other["encoder"].embed.weight, keywords["encoder"].embed.weight)
    assert not torch.equal(again["task"].embed.weight, again["encoder"].embed.weight)


def test_what_a_constructor_refuses_is_the_users():
    with pytest.raises(ConfigError, match=r"^invariance: .*abstract") as raised:
        build({"invariance": {"_target_": "geo3d.invariance.Group"}})
    assert "\n" not in str(raised.value)


def test_building_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    build(GOOD)
    assert torch.equal(torch.get_rng_state(), before)


def test_partial_nodes_and_lists_are_built():
    task = {"_target_": "geo3d.heads.Projector", "_partial_": True, "out_channels": 2, "num_layers": 1}
    parts = {"_target_": "geo3d.invariance.Compose", "parts": [{"_target_": "geo3d.invariance.Jitter", "std": 0.5}]}
    keywords = build({"task": task, "invariance": parts, "encoder": None})
    assert keywords["task"](3).out_channels == 2
    assert keywords["invariance"].parts[0].std == 0.5
    assert keywords["encoder"] is None


@pytest.mark.parametrize(("annotation", "wants"), [(tuple[int, ...] | None, True), (Sequence[int], False)])
def test_a_list_becomes_a_tuple_where_one_is_asked_for(annotation, wants):
    assert build_value([1, 2], annotation) == ((1, 2) if wants else [1, 2])
