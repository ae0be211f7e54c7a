"""Values that an option does not take, derived from its name and annotation alone."""

import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Union, get_args, get_origin, get_type_hints

FREE = {"seed"}  # any whole number
OPEN = {"negative_slope", "gradient_clip_val", "minutes"}  # floats for which -1 is not tried
SMALL = {"lr", "encoder_lr", "warmup", "label_fraction", "holdout", "ema", "average", "momentum", "dropout", "kept"}
PATHS = {"out", "root", "path", "checkpoint", "pattern", "only"}
GIVEN = {"dataset_class", "callbacks", "encoder", "num_classes", "views", "split", "moments", "out", "self"}
"""Parameters that the commands fill in themselves, or that have tests of their own."""


def options(function: Callable[..., Any]) -> dict[str, Any]:
    """Name -> annotation, for every parameter that may be given by keyword."""
    try:
        hints = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except NameError:
        hints = {}
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = inspect.signature(function).parameters.values()
    return {each.name: hints.get(each.name, Any) for each in parameters if each.kind not in kinds}


def wrong_values(name: str, annotation: Any) -> Iterator[str]:
    """Values that do not fit, as written on the command line."""
    inner = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    kinds = {get_origin(each) or each for each in inner}
    if Any in kinds or kinds & {inspect.Parameter.empty}:
        return
    numbers, listed = kinds & {int, float}, any(_is(kind, Sequence) for kind in kinds)
    if type(None) not in kinds and name not in PATHS:
        yield "null"
    if not any(_is(kind, Mapping) for kind in kinds):
        yield "{a: 1}"
    if not listed:
        yield "[1,2]"
    if numbers:
        yield from ("abc", "0x10", "1,5", "nan", "-inf", "'7'", "")
    if numbers and bool not in kinds:
        yield "true"
    if kinds <= {int, bool, type(None)} and int in kinds:
        yield "1.5"
    if int in kinds and float not in kinds and name not in FREE:
        yield from ("-1", "100000000000000000000", "-100000000000000000000", "9" * 400)
    if float in kinds and name not in OPEN:
        yield "-1"
    if float in kinds and name in SMALL:
        yield "1e300"
    if kinds <= {bool, type(None)}:
        yield from ("3", "maybe", "0.5", "'true'")
    if kinds <= {str, type(None)} and name not in PATHS:
        yield from ("zzz", "3", "true")
    if listed and not kinds & {str, Path}:
        yield from ("3", "abc", "[a]", "[[[[1]]]]", "[nan]", "[true]", "[-1]", "[100000000000000000000]", "[1,null]")


def _is(kind: Any, parent: type) -> bool:
    return inspect.isclass(kind) and issubclass(kind, parent) and kind is not str


def misspelt(name: str, known: typing.Iterable[str], draw: Random) -> str:
    """A misspelling of the name that is not itself a known name."""
    while True:
        at = draw.randrange(len(name))
        letter = draw.choice("aeilnorstz")
        other = draw.choice(
            [
                name[:at] + name[at + 1 :],
                name[:at] + letter + name[at:],
                name[: at + 1] + name[at:],
                name[:at] + letter + name[at + 1 :],
                name.replace("_", "") if "_" in name else name + "s",
                name.upper(),
                f"{name}_",
                f"_{name}",
            ]
        )
        if other and other not in known and (other[0].isalpha() or other[0] == "_"):
            return other
