"""Every option that the command line can reach says what it takes, and takes nothing else."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest

import geo3d.jobs
from geo3d import data, encoders, heads, invariance, objectives
from geo3d.checks import Length, Like, OneOf, Range, fits, parameters
from geo3d.cli.bench import compared
from geo3d.cli.check import check, data_parameters, trainer_parameters
from geo3d.cli.config import jobs
from geo3d.cli.export import exported
from geo3d.compress import pipeline
from geo3d.compress.record import ORDER
from geo3d.data.store import build_store
from geo3d.data.targets import Classes
from geo3d.errors import ConfigError
from geo3d.home import alternatives
from geo3d.invariance import views
from geo3d.jobs.sweeping import OPTIONS as RUN
from geo3d.tasks.classify import Classify
from geo3d.tasks.datamodule import DataModule
from geo3d.tasks.distill import Distill
from geo3d.tasks.pretrain import Pretrain
from geo3d.tasks.supervised import Supervised
from geo3d.tasks.trainer import make_trainer

MODULES = (encoders, objectives, invariance, data)
CLASSES = [
    each
    for module in MODULES
    for each in map(vars(module).get, module.__all__)
    if isinstance(each, type) and not hasattr(each, "_fields") and "__init__" in vars(each)
]
CLASSES += [
    DataModule,
    Supervised,
    Classify,
    Pretrain,
    Distill,
    views.Views,
    heads.Classifier,
    heads.Projector,
    heads.Predictor,
]
FUNCTIONS: list[Any] = [getattr(geo3d.jobs, name) for name in jobs()] + [make_trainer]
FUNCTIONS += [pipeline.step(name) for name in ORDER]
TAKERS: list[Any] = [*FUNCTIONS, *CLASSES, exported, compared, build_store]
OPTIONS = [(each, name) for each in TAKERS for name in parameters(each) if name != "**"]
OPTIONS += [("runs", name) for name in RUN]
CHOSEN_BY_WORD = (bool, str, Path, type(None))


def annotation_of(taker: Any, name: str) -> Any:
    return RUN[name] if taker == "runs" else parameters(taker)[name].annotation


def plain(annotation: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every plain type in an annotation, with the marks around it."""
    for kind in alternatives(annotation):
        if get_origin(kind) is Annotated:
            inner, *marks = get_args(kind)
            yield from ((each, (*own, *marks)) for each, own in plain(inner))
        elif get_origin(kind) is Literal or not get_args(kind):
            yield kind, ()
        elif get_origin(kind) is not Callable:
            for each in get_args(kind):
                yield from plain(each)


def names(pair: Any) -> str:
    return getattr(pair, "__name__", str(pair))


@pytest.mark.parametrize(("taker", "name"), OPTIONS, ids=names)
def test_every_number_has_a_stated_range(taker, name):
    for kind, marks in plain(annotation_of(taker, name)):
        if kind in (int, float):
            ranges = [mark for mark in marks if isinstance(mark, Range)]
            assert len(ranges) == 1, f"{names(taker)}.{name} states no range"
            assert ranges[0].low <= ranges[0].high < float("inf")


def outside(mark: Range, kind: type) -> list[Any]:
    step = 1 if kind is int else 1e-6 * max(1.0, abs(mark.high))
    low = mark.low if mark.above else mark.low - (1 if kind is int else 1e-6)
    return [low, mark.high + step, float("nan"), float("inf"), -float("inf"), 10**20, -(10**20), "1", "x", True, [[5]]]


def wrong_values(annotation: Any) -> list[Any]:
    """Values just outside of what an annotation asks for, and some far from it."""
    values: list[Any] = [{}, {"a": 1}, [{}], object(), b"x", {"_target_": "os.system"}, float("nan"), 10**20, -(10**20)]
    for kind, marks in plain(annotation):
        for mark in marks:
            if isinstance(mark, Range):
                values += (bad := outside(mark, kind)) + [[each] for each in bad] + [{"a": each} for each in bad]
            elif isinstance(mark, Length):
                values += [[], [1] * (mark.high + 1)]
            elif isinstance(mark, OneOf | Like):
                values += ["", "nothing like it", "\u0661", 3, ["x"]]
        if kind in CHOSEN_BY_WORD and not marks:
            values += [1.5, object()]
    return values


@pytest.mark.parametrize(("taker", "name"), OPTIONS, ids=names)
def test_what_lies_outside_is_refused_from_python(taker, name):
    annotation = annotation_of(taker, name)
    if taker in ("runs", exported) or annotation is Any:
        return
    required = {key: each for key, each in parameters(taker).items() if each.default is each.empty and key != "**"}
    given = {key: EXAMPLES[key] for key in required}
    refused = 0
    for value in wrong_values(annotation):
        if not fits(value, annotation):
            with pytest.raises(ConfigError) as raised:
                taker(**given | {name: value})
            owners = [each.__name__ for each in getattr(taker, "__mro__", (taker,))]
            said = str(raised.value)
            assert any(said.startswith(f"{owner}.{name}: ") for owner in owners) and "\n" not in said
            refused += 1
    assert refused >= 3


EXAMPLES: dict[str, Any] = {
    "encoder": encoders.PointNet(embedding=8, width=0.125, input_transform=False, feature_transform=False),
    "objective": objectives.BYOL(), "invariance": invariance.SO3(), "views": views.Views(invariance.SO3()),
    "data": DataModule(data.Shapes, size=8), "dataset_class": data.Shapes, "student": None, "teacher": None,
    "checkpoint": "x", "out": "x", "recipe": {}, "trainer": {}, "checkpoints": {}, "runs": {}, "root": "x", "parts": [],
    "num_points": 8, "num_classes": 4, "in_channels": 8, "target": Classes(("a", "b")), "cloud": "x.ply",
    "prediction": "x.npz", "truth": "x.npz",
}  # fmt: skip


def configurations() -> Iterator[tuple[str, Any, Callable[[Any], dict[str, Any]]]]:
    """Dotted key, annotation, and what makes a configuration of ``pretrain`` with a value there."""
    job = parameters(geo3d.jobs.pretrain)
    whole = {"encoder": {"_target_": "geo3d.encoders.DGCNN"}, "objective": {"_target_": "geo3d.objectives.BYOL"}}
    whole |= {"invariance": {"_target_": "geo3d.invariance.SO3"}, "data": {"_target_": "geo3d.data.Shapes"}}
    whole |= {"out": "x", "trainer": {}}
    for name, each in job.items():
        if name not in whole:
            yield name, each.annotation, lambda value, name=name: whole | {name: value}
    groups = {"encoder": encoders, "objective": objectives, "invariance": invariance}
    for group, module in groups.items():
        for found in (
            each for each in CLASSES if each.__name__ in module.__all__ and each.__module__.startswith(module.__name__)
        ):
            node = {"_target_": f"{module.__name__}.{found.__name__}"}
            node |= {key: 8 for key, each in parameters(found).items() if each.default is each.empty}
            for name, each in parameters(found).items():
                yield f"{group}.{name}", each.annotation, lambda v, g=group, n=node, k=name: whole | {g: n | {k: v}}
    for found in (
        data.DexYCB,
        data.Folder,
        data.ICVL,
        data.MSRA15,
        data.ModelNet,
        data.NYU,
        data.Rooms,
        data.S3DIS,
        data.ScanObjectNN,
        data.ShapeNetPart,
        data.Shapes,
    ):
        node = {"_target_": f"geo3d.data.{found.__name__}"} | (
            {} if found in (data.Rooms, data.Shapes) else {"root": "x"}
        )
        for name, each in data_parameters(found).items():
            yield f"data.{name}", each.annotation, lambda v, n=node, k=name: whole | {"data": n | {k: v}}
    for name, each in trainer_parameters().items():
        yield f"trainer.{name}", each.annotation, lambda v, k=name: whole | {"trainer": {k: v}}
    for step in ORDER:
        for name, each in list(parameters(pipeline.step(step)).items())[1:]:
            if name != "moments":
                yield (
                    f"recipe.{step}.{name}",
                    each.annotation,
                    lambda v, s=step, k=name: whole | {"recipe": {s: {k: v}}},
                )


def filled(recipe: dict[str, Any], value: Any) -> dict[str, Any]:
    return {step: dict.fromkeys(keywords, value) for step, keywords in recipe.items()}


@pytest.mark.parametrize(("key", "annotation", "configured"), configurations(), ids=names)
def test_what_lies_outside_is_refused_by_the_command_line_before_anything_is_built(key, annotation, configured):
    for value in wrong_values(annotation):
        if not fits(value, annotation):
            with pytest.raises(ConfigError, match=rf"^{key}\b"):
                check(configured(value), geo3d.jobs.pretrain, "pretrain")


@pytest.mark.parametrize("size", [10**20, 10**12, 10**9])
def test_absurd_sizes_are_out_of_range(size):
    for taker, name in OPTIONS:
        for kind, marks in plain(annotation_of(taker, name)):
            if kind is int and not {"seed", "seeds", "max_steps", "shaping_steps", "steps"} & {name}:
                assert not any(mark.holds(size) for mark in marks if isinstance(mark, Range)), name


def test_what_is_offered_is_what_is_right():
    for taker, name in OPTIONS:
        if taker != "runs":
            parameter = parameters(taker)[name]
            default = parameter.default
            assert default is parameter.empty or fits(default, parameter.annotation), name
