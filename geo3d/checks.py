"""What options may be: ranges beside the types in a signature, and one check of a call against both.

An option states its range where it is declared, ``k: Annotated[int, Range(1, 1024)] = 20``. Functions and constructors
under :func:`checked` refuse what does not fit; the command line asks :func:`fits` before anything is built.
"""

import functools
import inspect
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from geo3d.errors import ConfigError
from geo3d.home import expanded

F = TypeVar("F", bound=Callable[..., Any])
Parameters = dict[str, inspect.Parameter]


class Range(NamedTuple):
    """Finite numbers from ``low`` to ``high``; with ``above`` not ``low`` itself.

    Example:
        >>> str(Range(1, 8)), str(Range(0, 10, above=True))
        ('from 1 to 8', 'above 0 and up to 10')
    """

    low: float
    high: float
    above: bool = False

    def holds(self, value: Any) -> bool:
        """Whether the number lies within."""
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        low, high = (int(bound) if bound == int(bound) else bound for bound in self[:2])
        return f"above {low} and up to {high}" if self.above else f"from {low} to {high}"


class Length(NamedTuple):
    """A list with ``low`` to ``high`` entries, or a text with that many characters."""

    low: int
    high: int

    def holds(self, value: Any) -> bool:
        """Whether it is as long as that."""
        return self.low <= len(value) <= self.high

    def __str__(self) -> str:
        return f"of length {self.low}" + (f" to {self.high}" if self.high > self.low else "")


class OneOf:
    """One of some words.

    Example:
        >>> str(OneOf("aligned", "z", "so3"))
        'aligned, z or so3'
    """

    def __init__(self, *names: str) -> None:
        self.names = names

    def holds(self, value: Any) -> bool:
        """Whether it is one of them."""
        return value in self.names

    def __str__(self) -> str:
        return " or ".join(filter(None, (", ".join(self.names[:-1]), self.names[-1])))


class Like(NamedTuple):
    """Text that a regular expression matches as a whole."""

    pattern: str
    text: str
    """How such text looks."""

    def holds(self, value: Any) -> bool:
        """Whether it matches."""
        return re.fullmatch(self.pattern, value, re.ASCII) is not None

    def __str__(self) -> str:
        return self.text


LARGEST = sys.float_info.max
Seed = Annotated[int, Range(0, 2**63 - 1)]
Share = Annotated[float, Range(0, 1)]
Rate = Annotated[float, Range(0, 10, above=True)]
Decay = Annotated[float, Range(0, 10)]
Size = Annotated[int, Range(1, 8192)]
"""Channels of a layer."""
Points = Annotated[int, Range(1, 10_000_000)]
Distance = Annotated[float, Range(0, 1e6)]
"""In the units of a cloud."""
Up = Annotated[str, OneOf("y", "z")]
Split = Annotated[str, OneOf("train", "test")]


def checked(function: F) -> F:
    """The function or constructor, that refuses arguments which do not fit its annotations.

    A ``~`` at the beginning of a path becomes the home folder here, wherever ``Path`` is part of the annotation.

    Raises:
        ConfigError: When it is called so.

    Example:
        >>> @checked
        ... def area(width: Annotated[int, Range(1, 9)]) -> int:
        ...     return width**2
        >>> area(0)
        Traceback (most recent call last):
        ...
        geo3d.errors.ConfigError: area.width: 0 is not an int from 1 to 9
    """
    signature = inspect.signature(function)
    owner = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        given = signature.bind(*args, **keywords)
        for name, value in given.arguments.items():
            if name in (takes := parameters(function)):
                annotation = takes[name].annotation
                if not fits(value, annotation):
                    raise ConfigError(f"{owner}.{name}: {mistake(value, annotation)}")
                given.arguments[name] = expanded(value, annotation, f"{owner}.{name}")
        return function(*given.args, **given.kwargs)

    return cast(F, call)


@functools.cache
def ordered(owner: object, low: str, high: str, least: float, most: float) -> None:
    """Check that ``least <= most``.

    Raises:
        ConfigError: If not, naming the class and its two keywords.
    """
    if least > most:
        raise ConfigError(f"{type(owner).__name__}: {low} must not be above {high}; found {(least, most)}")


def parameters(function: Callable[..., Any]) -> Parameters:
    """The parameters that may be given by keyword, with their annotations evaluated; ``**`` under that name.

    Keywords that a class hands on to a checked constructor of the class it extends are that constructor's.
    """
    try:
        hints = get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    except NameError:  # a name imported for type checkers only: the value is left to the function
        hints = {}
    found: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            found |= handed_on(function) or {"**": parameter}
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            found[name] = parameter.replace(annotation=hints.get(name, Any))
    return found


def handed_on(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of the checked constructor that a class extends; none if there is none."""
    above = inspect.getmro(function)[1:] if inspect.isclass(function) else ()
    parent = next((each for each in above if "__init__" in vars(each)), object)
    return dict(parameters(parent)) if hasattr(parent.__init__, "__wrapped__") else {}  # type: ignore[misc]


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value may stand where ``annotation`` is asked for.

    Example:
        >>> fits(1, float), fits("abc", float | None), fits([64, 64], Sequence[int]), fits(True, int)
        (True, False, True, False)
        >>> fits(float("nan"), float), fits(0, Annotated[int, Range(1, 9)])
        (False, False)
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        nowhere = isinstance(value, str) and not value and Path in inner  # it would be the current folder
        return not nowhere and any(fits(value, each) for each in inner)
    if origin is Annotated:
        return fits(value, inner[0]) and all(mark.holds(value) for mark in inner[1:])
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if annotation in (None, type(None)):
        return value is None
    if annotation in (bool, str):
        return isinstance(value, annotation)
    if annotation is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if annotation is float:
        return isinstance(value, Real) and not isinstance(value, bool) and abs(value) <= LARGEST  # type: ignore[operator]
    if annotation is Path:
        return isinstance(value, str | Path) and bool(str(value))
    if Callable in (origin, annotation):
        return callable(value)
    if annotation is Any or not inspect.isclass(origin or annotation):
        return True
    if issubclass(origin or annotation, Mapping):
        pairs = value.items() if isinstance(value, Mapping) and inner else ()
        return isinstance(value, Mapping) and all(fits(key, inner[0]) and fits(each, inner[1]) for key, each in pairs)
    if issubclass(origin or annotation, Sequence):
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            return False
        if origin is tuple and inner and inner[-1] is not Ellipsis:
            return len(value) == len(inner) and all(map(fits, value, inner))
        return not inner or all(fits(each, inner[0]) for each in value)
    return isinstance(value, origin or annotation)


def mistake(value: Any, annotation: Any) -> str:
    """What to say of a value that does not fit."""
    return f"{shown(value)} is not {described(annotation)}"


def shown(value: Any, room: int = 80) -> str:
    """A value in an error message, cut where it is long.

    Example:
        >>> shown("abc"), shown(10**20), shown("x" * 99, room=8)
        ("'abc'", '100000000000000000000', "'xxxxxxx...")
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits; a list within lists without end
        text = f"a {type(value).__name__} beyond all measure"
    return text if len(text) <= room else f"{text[:room]}..."


def described(annotation: Any) -> str:
    """An annotation in words.

    Example:
        >>> described(float | None), described(Sequence[int]), described(Literal["aligned", "z"])
        ('a float or null', 'a list of int', "'aligned' or 'z'")
        >>> described(Sequence[Sequence[int]])
        'a list of lists of int, for example [[5,10]]'
        >>> described(Annotated[int, Range(1, 9)]), described(Annotated[str, OneOf("y", "z")])
        ('an int from 1 to 9', 'y or z')
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(described, inner)))
    if origin is Annotated:
        return _marked(described(inner[0]), inner[1:])
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if inspect.isclass(origin or annotation) and issubclass(origin or annotation, Mapping):
        known = inner and inner[1] is not Any
        return f"a mapping to {plural(inner[1])}" if known else "a mapping, for example {a: 1}"
    if inner and origin is not Callable:
        nested = plural(inner[0]).startswith("lists")
        return f"a list of {plural(inner[0])}{', for example [[5,10]]' if nested else ''}"
    if annotation in (None, type(None)):
        return "null"
    name = "str" if annotation is Path else getattr(annotation, "__name__", str(annotation))
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"


def _marked(text: str, marks: Sequence[Any]) -> str:
    """A type in words with what is asked of it beside; what is asked of words says all by itself."""
    return " ".join(str(mark) if isinstance(mark, OneOf | Like) else f"{text} {mark}" for mark in marks)


def plural(annotation: Any) -> str:
    """An annotation in words, for the members of a list."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(plural, inner)))
    if origin is Annotated:
        return _marked(plural(inner[0]), inner[1:])
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if inner:
        return f"lists of {plural(inner[0])}"
    return "str" if annotation is Path else getattr(annotation, "__name__", str(annotation))
