"""Every option against the signature that will receive it, before anything is built."""

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from geo3d.checks import Parameters, fits, mistake, parameters
from geo3d.cli.config import MISSING, as_written, choices, config_dir, read
from geo3d.cli.words import TARGET, split, value_of
from geo3d.errors import ConfigError, did_you_mean
from geo3d.home import alternatives, expanded

PLACES = {"out": "DIR", "root": "PATH", "cloud": "FILE", "path": "FILE", "checkpoint": "DIR/encoder"}
PARTIAL = "_partial_"
"""In geo3d's own files: the job completes the call."""


def locate(target: Any, annotation: Any = object, group: str = "") -> type:
    """The class that a ``_target_`` names: a public one of geo3d, that may stand where ``annotation`` is asked for.

    Args:
        target: Package and name, such as ``geo3d.encoders.DGCNN``.
        annotation: Of the option.
        group: The option; where there are choices for it, the class must come from where theirs come from.

    Raises:
        ConfigError: If it is anything else; a configuration must not run other code.
    """
    package, _, name = str(target).rpartition(".")
    expected = f"a class of {' or '.join(packages(group)) or 'geo3d'}"
    if re.fullmatch(r"geo3d(\.[a-z]\w*)*", package, re.ASCII) and (not packages(group) or package in packages(group)):
        try:
            module = importlib.import_module(package)
        except ModuleNotFoundError:
            module = None
        found = getattr(module, name, None)
        own = name in getattr(module, "__all__", ()) or getattr(found, "__module__", "") == package
        if own and inspect.isclass(found) and not name.startswith("_") and may_be(found, annotation, group):
            return found
        expected = f"{expected} that is {wanted(annotation)}" if wanted(annotation) else expected
    raise ConfigError(f"{TARGET}={target}: expected {expected}; for others call geo3d.jobs in Python")


def packages(group: str) -> list[str]:
    """Where the classes of a group of choices come from."""
    return sources(config_dir() / group) if group else []


@functools.cache
def sources(folder: Path) -> list[str]:
    """Where the classes that the files of a folder name come from."""
    targets = [read(path).get(TARGET, "") for path in folder.glob("*.yaml")]
    return sorted({target.rpartition(".")[0] for target in targets} - {""})


def classes(annotation: Any) -> tuple[type, ...]:
    """The classes that an annotation asks for objects of; none if it asks for what can be written down."""
    kinds = alternatives(annotation)
    written = (Any, bool, int, float, str, Path, type(None))
    return tuple(kind for kind in kinds if inspect.isclass(kind) and kind not in written and not get_args(kind))


def wanted(annotation: Any) -> str:
    """The names of these classes."""
    return " or ".join(kind.__name__ for kind in classes(annotation))


def may_be(found: type, annotation: Any, group: str) -> bool:
    """Whether an object of a class may stand there; of data and of calls that a job completes its files decide."""
    called = any(Callable in (kind, get_origin(kind)) for kind in alternatives(annotation))
    decided = bool(packages(group)) and (called or group == "data")
    return decided or any(issubclass(found, kind) for kind in classes(annotation))


def simple(annotation: Any) -> bool:
    """Whether a value for ``annotation`` can be written down: made of numbers, strings, truth values and lists."""
    if get_origin(annotation) is Annotated:
        return simple(get_args(annotation)[0])
    if get_origin(annotation) is Literal or annotation in (bool, int, float, str, Path, None, type(None), Ellipsis):
        return True
    return bool(get_args(annotation)) and all(map(simple, get_args(annotation)))


def options(words: Sequence[str], takes: Parameters, label: str, example: str) -> dict[str, Any]:
    """The keywords that plain ``KEY=VALUE`` words are for something that takes ``takes``.

    Args:
        words: From the command line.
        takes: From a signature.
        label: What takes them.
        example: A word that would be right.

    Raises:
        ConfigError: With one line for each mistake.
    """
    written = dict(split(word, example) for word in words)
    config = settled({key: value_of(f"{key}={text}") for key, text in written.items()}, takes, written)
    if mistakes := list(call(config, takes, label)):
        raise ConfigError("\n".join(mistakes))
    return config


def settled(config: dict[str, Any], takes: Parameters, written: Mapping[str, str], path: str = "") -> dict[str, Any]:
    """The same configuration, with text where text is asked for, and the home folder for ``~`` where paths are.

    Args:
        config: As composed.
        takes: What its keys are for.
        written: By dotted key what stood on the command line: a folder named ``1e3`` is not the number 1000.
        path: The dotted key of ``config`` itself.
    """
    done = {}
    for key, each in config.items():
        annotation = takes[key].annotation if key in takes else Any
        done[key] = settled_value(each, annotation, written, f"{path}{key}")
    return done


def settled_value(found: Any, annotation: Any, written: Mapping[str, str], path: str) -> Any:
    """One value of the configuration, as its annotation asks for it."""
    inner = taken(found, annotation, path)
    if inner is not None:
        return settled(found, inner, written, f"{path}.")
    if isinstance(found, list) and classes(member := member_of(annotation)):
        return [settled_value(each, member, written, f"{path}[{i}]") for i, each in enumerate(found)]
    if isinstance(found, dict):
        member = next((get_args(k)[1] for k in alternatives(annotation) if len(get_args(k)) == 2), Any)
        found = {key: settled_value(each, member, written, f"{path}.{key}") for key, each in found.items()}
    elif found is not None and path in written and not fits(found, annotation):
        text = written[path]
        again = [each.strip().strip("'\"") for each in text[1:-1].split(",")] if isinstance(found, list) else text
        found = again if fits(again, annotation) else found
    return expanded(found, annotation, path)


def member_of(annotation: Any) -> Any:
    """What an annotation asks of the members of a list; null if it asks for no list."""
    for kind in alternatives(annotation):
        if get_origin(kind) is Annotated:
            return member_of(get_args(kind)[0])
        if inspect.isclass(get_origin(kind)) and issubclass(get_origin(kind), Sequence) and get_args(kind):
            return get_args(kind)[0]
    return None


def taken(found: Any, annotation: Any, path: str) -> Parameters | None:
    """The keywords that a mapping in the configuration is for; None if it is a plain value.

    Raises:
        ConfigError: If it names a class that may not stand there.
    """
    if not isinstance(found, dict):
        return None
    if TARGET in found:
        if not classes(annotation) and not packages(path):
            raise ConfigError(f"{path}: {mistake(found, annotation)}")
        try:
            target = locate(found[TARGET], annotation, path)
        except ConfigError as error:
            raise ConfigError(f"{path}.{error}") from None
        return data_parameters(target) if path == "data" else parameters(target)
    return trainer_parameters() if path == "trainer" else None


def check(config: dict[str, Any], job: Callable[..., Any], command: str) -> None:
    """Check that every option belongs to something that takes it, and has a value that fits.

    Args:
        config: As composed; its top-level keys are keywords of ``job``.
        job: The function to be called.
        command: What the user calls it.

    Raises:
        ConfigError: With one line for each mistake.
    """
    takes = parameters(job)
    mistakes = list(call(config, takes, f"geo3d {command}"))
    for name, each in config.items():  # the job itself gives these to what it builds, so they would have no effect
        if isinstance(each, dict) and each.get(PARTIAL):
            mistakes += [
                f"{name}.{key}: is an option of the command; give {key}={as_written(each[key])}"
                for key in each
                if key in takes
            ]
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def call(config: dict[str, Any], takes: Parameters, label: str, path: str = "", partial: bool = False) -> Iterator[str]:
    """Every mistake in the keywords ``config`` for something that takes ``takes``."""
    for key, each in config.items():
        if key in (TARGET, PARTIAL) and TARGET in config:
            continue
        if key in takes:
            yield from check_value(each, takes[key].annotation, f"{path}{key}")
        elif "**" not in takes or key.startswith("_"):
            names = [name for name in takes if takes[name].kind is not inspect.Parameter.POSITIONAL_ONLY]
            yield f"{path}{key}: {label} takes no '{key}'; {did_you_mean(key, names, 'it takes')}"
    for name, parameter in takes.items():
        if name != "**" and parameter.default is parameter.empty and name not in config and not partial:
            yield from check_value(MISSING, Any, f"{path}{name}")


def check_value(found: Any, annotation: Any, path: str) -> Iterator[str]:
    """Every mistake in one value, or in the constructor that is written in its place."""
    name = path.rpartition(".")[2]
    if found == MISSING or (found == "" and name in PLACES):  # an empty path would be the current folder
        known = f"{path}=NAME ({', '.join(choices(path))})" if choices(path) else f"{path}={PLACES.get(name, 'VALUE')}"
        yield f"{path}: a value is needed; give {known}"
        return
    inner = taken(found, annotation, path)
    if inner is not None:
        yield from call(found, inner, found.get(TARGET, "the trainer"), f"{path}.", bool(found.get(PARTIAL)))
    elif path == "recipe" and isinstance(found, dict):
        yield from recipe_mistakes(found)
    elif isinstance(found, dict) and choices(path):
        yield f"{path}: choose one before its options are set; give {path}=NAME ({', '.join(choices(path))})"
    elif isinstance(found, list) and classes(member_of(annotation)):
        for index, each in enumerate(found):
            yield from check_value(each, member_of(annotation), f"{path}[{index}]")
    elif not fits(found, annotation):
        yield f"{path}: {mistake(found, annotation)}"


def recipe_mistakes(recipe: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the steps that a recipe names."""
    from geo3d.compress.pipeline import parse_recipe

    try:
        parse_recipe(recipe)
    except ConfigError as error:
        yield str(error)


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
