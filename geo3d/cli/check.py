"""Checks every option against the signature that will receive it, before anything is built."""

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
"""Key in geo3d's own configurations that makes a ``functools.partial``, which the job calls later."""


def locate(target: Any, annotation: Any = object, group: str = "") -> type:
    """The public class of geo3d that a ``_target_`` names.

    Args:
        target: Package and name, such as ``geo3d.encoders.DGCNN``.
        annotation: The annotation of the option, which the class must satisfy.
        group: The name of the option; if ``configs/`` has choices for it, the class must come from a package that one
            of these choices names.

    Raises:
        ConfigError: If it names anything else, because a configuration must not run other code.
    """
    package, _, name = str(target).rpartition(".")
    expected = f"a class of {' or '.join(packages(group)) or 'geo3d'}"
    if re.fullmatch(r"geo3d(\.[a-z]\w*)*", package, re.ASCII) and (not packages(group) or package in packages(group)):
        try:
            module = importlib.import_module(package)
        except ModuleNotFoundError:
            module = None
        candidate = getattr(module, name, None)
        own = name in getattr(module, "__all__", ()) or getattr(candidate, "__module__", "") == package
        if own and inspect.isclass(candidate) and not name.startswith("_") and may_be(candidate, annotation, group):
            return candidate
        if module is not None and candidate is None and package in packages(group):
            raise ConfigError(f"{TARGET}={target}: {package} has no {name}; import the class in its __init__.py")
        expected = f"{expected} that is {wanted(annotation)}" if wanted(annotation) else expected
    raise ConfigError(f"{TARGET}={target}: expected {expected}; to use other classes, call geo3d.jobs from Python")


def packages(group: str) -> list[str]:
    """The packages from which the choices of a configuration group take their classes."""
    return sources(config_dir() / group) if group else []


@functools.cache
def sources(folder: Path) -> list[str]:
    """The packages of the classes that the configurations in a folder name."""
    targets = [read(path).get(TARGET, "") for path in folder.glob("*.yaml")]
    return sorted({target.rpartition(".")[0] for target in targets} - {""})


def classes(annotation: Any) -> tuple[type, ...]:
    """The classes whose objects an annotation accepts, without plain types such as ``int``, ``str`` and ``Path``."""
    kinds = alternatives(annotation)
    written = (Any, bool, int, float, str, Path, type(None))
    return tuple(kind for kind in kinds if inspect.isclass(kind) and kind not in written and not get_args(kind))


def wanted(annotation: Any) -> str:
    """The names of these classes, as an error message lists them."""
    return " or ".join(kind.__name__ for kind in classes(annotation))


def may_be(found: type, annotation: Any, group: str) -> bool:
    """Whether a class may be given for an option.

    It must be a subclass of one that the annotation names. For ``data``, and for options that take a callable, the
    annotation says too little: there it is enough that the class comes from a package of the group.
    """
    called = any(Callable in (kind, get_origin(kind)) for kind in alternatives(annotation))
    decided = bool(packages(group)) and (called or group == "data")
    return decided or any(issubclass(found, kind) for kind in classes(annotation))


def simple(annotation: Any) -> bool:
    """Whether values for ``annotation`` can be written on a command line: numbers, strings, truth values and lists."""
    if get_origin(annotation) is Annotated:
        return simple(get_args(annotation)[0])
    if get_origin(annotation) is Literal or annotation in (bool, int, float, str, Path, None, type(None), Ellipsis):
        return True
    return bool(get_args(annotation)) and all(map(simple, get_args(annotation)))


def options(words: Sequence[str], takes: Parameters, label: str, example: str) -> dict[str, Any]:
    """The checked keywords that ``KEY=VALUE`` arguments stand for.

    Args:
        words: The command-line arguments.
        takes: The parameters of the function that will receive them.
        label: What an error message calls that function.
        example: A valid argument, for error messages.

    Raises:
        ConfigError: With one line for each mistake.
    """
    written = dict(split(word, example) for word in words)
    config = settled({key: value_of(f"{key}={text}") for key, text in written.items()}, takes, written)
    if mistakes := list(call(config, takes, label)):
        raise ConfigError("\n".join(mistakes))
    return config


def settled(config: dict[str, Any], takes: Parameters, written: Mapping[str, str], path: str = "") -> dict[str, Any]:
    """The same configuration with strings for options that take strings, and with ``~`` expanded in paths.

    Args:
        config: The composed configuration.
        takes: The parameters that its keys belong to.
        written: The text behind each dotted key on the command line; from it a folder named ``1e3`` stays a string,
            although the parser has made the number 1000 of it.
        path: The dotted key of ``config`` itself, with a dot at its end; empty at the top.
    """
    done = {}
    for key, each in config.items():
        annotation = takes[key].annotation if key in takes else Any
        done[key] = settled_value(each, annotation, written, f"{path}{key}")
    return done


def settled_value(found: Any, annotation: Any, written: Mapping[str, str], path: str) -> Any:
    """One value of the configuration, converted for its annotation as :func:`settled` describes."""
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
    """The annotation of a list's members; None if ``annotation`` accepts no list."""
    for kind in alternatives(annotation):
        if get_origin(kind) is Annotated:
            return member_of(get_args(kind)[0])
        if inspect.isclass(get_origin(kind)) and issubclass(get_origin(kind), Sequence) and get_args(kind):
            return get_args(kind)[0]
    return None


def taken(found: Any, annotation: Any, path: str) -> Parameters | None:
    """The parameters that the keys of a mapping in the configuration belong to; None if it is a plain value.

    Raises:
        ConfigError: If the mapping names a class that the option does not take.
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
    """Check that every option is a parameter of the job or of an object that is built, and that its value fits.

    Args:
        config: The composed configuration; its top-level keys are keywords of ``job``.
        job: The function to be called.
        command: The name of the command.

    Raises:
        ConfigError: With one line for each mistake.
    """
    takes = parameters(job)
    mistakes = list(call(config, takes, f"geo3d {command}"))
    for name, each in config.items():  # the job passes its own options on, so values given here would have no effect
        if isinstance(each, dict) and each.get(PARTIAL):
            mistakes += [
                f"{name}.{key}: is an option of the command; give {key}={as_written(each[key])}"
                for key in each
                if key in takes
            ]
    if mistakes:
        raise ConfigError("\n".join(mistakes))


def call(config: dict[str, Any], takes: Parameters, label: str, path: str = "", partial: bool = False) -> Iterator[str]:
    """Every mistake in the keywords ``config`` of a call, one line each.

    Args:
        config: The keywords.
        takes: The parameters of what is called.
        label: What an error message calls it.
        path: The dotted key of ``config`` itself, with a dot at its end; empty at the top.
        partial: Whether a job adds the missing keywords later.
    """
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
    """Every mistake in one value, or in the ``_target_`` mapping that stands for an object."""
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
    """The first mistake in the steps of a recipe, if there is one."""
    from geo3d.compress.pipeline import parse_recipe

    try:
        parse_recipe(recipe)
    except ConfigError as error:
        yield str(error)


def data_parameters(dataset_class: type) -> Parameters:
    """The options of ``data``: those of the DataModule and of the data set, without ``split``, which jobs choose."""
    from geo3d.tasks.datamodule import DataModule

    takes = {name: each for name, each in parameters(dataset_class).items() if name != "split"}
    return takes | {name: each for name, each in parameters(DataModule).items() if each.kind is each.KEYWORD_ONLY}


def trainer_parameters() -> Parameters:
    """The options of ``trainer``: those of ``make_trainer`` whose values can be written on a command line."""
    from geo3d.tasks.trainer import make_trainer

    return {
        name: each
        for name, each in parameters(make_trainer).items()
        if each.kind is each.KEYWORD_ONLY and simple(each.annotation)
    }
