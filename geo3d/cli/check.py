"""Every option against the signature that will receive it, before anything is built."""

import importlib
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from geo3d.cli.config import MISSING, choices, did_you_mean
from geo3d.errors import ConfigError

TRUSTED = ("geo3d", "torch")
PLACES = {"out": "DIR", "root": "PATH", "path": "FILE", "checkpoint": "DIR/encoder"}
Parameters = dict[str, inspect.Parameter]


def locate(target: str) -> type:
    """The class that a ``_target_`` names.

    Raises:
        ConfigError: If it is no class of geo3d or torch; a configuration must not run anything else.
    """
    module, _, name = target.rpartition(".")
    if module.partition(".")[0] in TRUSTED:
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ModuleNotFoundError as error:
            if not f"{module}.".startswith(f"{error.name}."):
                raise
            found = None
        if inspect.isclass(found) and found.__module__.partition(".")[0] in TRUSTED:
            return found
    raise ConfigError(
        f"_target_={target}: expected a class of {' or '.join(TRUSTED)}; for others call geo3d.jobs in Python"
    )


def parameters(function: Callable[..., Any]) -> Parameters:
    """The parameters that may be given by keyword, with their annotations evaluated; ``**`` under that name."""
    try:
        hints = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except NameError:  # a name imported for type checkers only: the value is left to the constructor
        hints = {}
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            found["**"] = parameter
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            found[name] = parameter.replace(annotation=hints.get(name, Any))
    return found


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value of a configuration may stand where ``annotation`` is asked for.

    Example:
        >>> fits(1, float), fits("abc", float | None), fits([64, 64], Sequence[int]), fits(True, int)
        (True, False, True, False)
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return value in inner
    if annotation in (None, type(None)):
        return value is None
    if annotation in (bool, str):
        return isinstance(value, annotation)
    if annotation in (int, float):
        return isinstance(value, (int, annotation)) and not isinstance(value, bool)
    if annotation is Path:
        return isinstance(value, str)
    if inspect.isclass(origin or annotation) and issubclass(origin or annotation, Mapping):
        return isinstance(value, dict)
    if inspect.isclass(origin or annotation) and issubclass(origin or annotation, Sequence):
        if not isinstance(value, list):
            return False
        if origin is tuple and inner and inner[-1] is not Ellipsis:
            return len(value) == len(inner) and all(map(fits, value, inner))
        return not inner or all(fits(each, inner[0]) for each in value)
    return True


def simple(annotation: Any) -> bool:
    """Whether a value for ``annotation`` can be written down: made of numbers, strings, truth values and lists."""
    if get_origin(annotation) is Literal or annotation in (bool, int, float, str, Path, None, type(None), Ellipsis):
        return True
    return bool(get_args(annotation)) and all(map(simple, get_args(annotation)))


def described(annotation: Any) -> str:
    """An annotation in words.

    Example:
        >>> described(float | None), described(Sequence[int]), described(Literal["aligned", "z"])
        ('a float or null', 'a list of int', "'aligned' or 'z'")
        >>> described(Sequence[Sequence[int]])
        'a list of lists of int, for example [[5,10]]'
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(described, inner)))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "a mapping, for example {a: 1}"
    if inner:
        nested = get_origin(inner[0]) not in (None, Literal, Union, types.UnionType)
        return f"a list of {plural(inner[0])}{', for example [[5,10]]' if nested else ''}"
    if annotation in (None, type(None)):
        return "null"
    name = "str" if annotation is Path else getattr(annotation, "__name__", str(annotation))
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def plural(annotation: Any) -> str:
    """An annotation in words, for the members of a list."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(plural, inner)))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if inner:
        return f"lists of {plural(inner[0])}"
    return "str" if annotation is Path else getattr(annotation, "__name__", str(annotation))


def check(config: dict[str, Any], job: Callable[..., Any], command: str) -> None:
    """Nothing, if every option belongs to something that takes it and has a value that fits.

    Args:
        config: As composed; its top-level keys are keywords of ``job``.
        job: The function to be called.
        command: What the user calls it.

    Raises:
        ConfigError: With one line for each mistake.
    """
    takes = parameters(job)
    mistakes = list(call(config, takes, f"geo3d {command}"))
    for name, value in config.items():  # the job itself gives these to what it builds, so they would have no effect
        if isinstance(value, dict) and value.get("_partial_"):
            mistakes += [
                f"{name}.{key}: is an option of the command; give {key}={value[key]}" for key in value if key in takes
            ]
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def call(config: dict[str, Any], takes: Parameters, label: str, path: str = "", partial: bool = False) -> Iterator[str]:
    """Every mistake in the keywords ``config`` for something that takes ``takes``."""
    for key, value in config.items():
        if key.startswith("_"):
            continue
        if key in takes:
            yield from check_value(value, takes[key].annotation, f"{path}{key}")
        elif "**" not in takes:
            names = [name for name in takes if takes[name].kind is not inspect.Parameter.POSITIONAL_ONLY]
            yield f"{path}{key}: {label} takes no '{key}'; {did_you_mean(key, names, 'it takes')}"
    for name, parameter in takes.items():
        if name != "**" and parameter.default is parameter.empty and name not in config and not partial:
            yield from check_value(MISSING, Any, f"{path}{name}")


def check_value(value: Any, annotation: Any, path: str) -> Iterator[str]:
    """Every mistake in one value, or in the constructor that is written in its place."""
    name = path.rpartition(".")[2]
    if value == MISSING or (value == "" and name in PLACES):  # an empty path would be the current folder
        known = f"{path}=NAME ({', '.join(choices(path))})" if choices(path) else f"{path}={PLACES.get(name, 'VALUE')}"
        yield f"{path}: a value is needed; give {known}"
    elif isinstance(value, dict) and "_target_" in value:
        target = value["_target_"]
        takes = data_parameters(locate(target)) if path == "data" else parameters(locate(target))
        yield from call(value, takes, target, f"{path}.", bool(value.get("_partial_")))
    elif path == "trainer" and isinstance(value, dict):
        yield from call(value, trainer_parameters(), "the trainer", "trainer.")
    elif path == "recipe" and isinstance(value, dict):
        yield from recipe_mistakes(value)
    elif isinstance(value, dict) and choices(path):
        yield f"{path}: choose one before its options are set; give {path}=NAME ({', '.join(choices(path))})"
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for index, each in enumerate(value):
            yield from check_value(each, Any, f"{path}[{index}]")
    elif not fits(value, annotation):
        yield f"{path}: {value!r} is not {described(annotation)}"


def recipe_mistakes(recipe: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the steps that a recipe names."""
    from geo3d.compress.pipeline import opening, step

    try:
        steps = opening(recipe)
    except ConfigError as error:
        yield str(error)
        return
    for name in [name for name in steps if name != "encoder"]:
        takes = parameters(step(name))
        for key, value in steps[name].items():
            yield from check_value(value, takes[key].annotation, f"recipe.{name}.{key}")


def data_parameters(dataset_class: type) -> Parameters:
    """What ``data.*`` may hold: options of the DataModule, and of the data set but for the split, which jobs choose."""
    from geo3d.tasks.datamodule import DataModule

    takes = {name: each for name, each in parameters(dataset_class).items() if name != "split"}
    return takes | {name: each for name, each in parameters(DataModule).items() if each.kind is each.KEYWORD_ONLY}


def trainer_parameters() -> Parameters:
    """What ``trainer.*`` may hold: the options of the trainer that can be written down."""
    from geo3d.tasks.trainer import make_trainer

    return {
        name: each
        for name, each in parameters(make_trainer).items()
        if each.kind is each.KEYWORD_ONLY and simple(each.annotation)
    }
