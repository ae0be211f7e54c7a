"""Allowed values of options: ranges beside the types in a signature, and a check of each call against both.

An option states its range where it is declared, ``k: Annotated[int, Range(1, 1024)] = 20``. Functions and constructors
decorated with :func:`checked` refuse values that do not fit; the command line calls :func:`fits` before it builds
anything.
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
    """Numbers from ``low`` to ``high``; ``above`` excludes ``low`` itself.

    Example:
        >>> str(Range(1, 8)), str(Range(0, 10, above=True))
        ('from 1 to 8', 'above 0 and up to 10')
    """

    low: float
    high: float
    above: bool = False

    def holds(self, value: Any) -> bool:
        """Whether the number lies in the range."""
        return self.low <= value <= self.high and not (self.above and value == self.low)

    def __str__(self) -> str:
        low, high = (int(bound) if bound == int(bound) else bound for bound in self[:2])
        return f"above {low} and up to {high}" if self.above else f"from {low} to {high}"


class Length(NamedTuple):
    """A list with ``low`` to ``high`` entries, or a text with that many characters."""

    low: int
    high: int

    def holds(self, value: Any) -> bool:
        """Whether the value has an allowed length."""
        return self.low <= len(value) <= self.high

    def __str__(self) -> str:
        return f"of length {self.low}" + (f" to {self.high}" if self.high > self.low else "")


class OneOf:
    """One of several words.

    Example:
        >>> str(OneOf("aligned", "z", "so3"))
        'aligned, z or so3'
    """

    def __init__(self, *names: str) -> None:
        self.names = names

    def holds(self, value: Any) -> bool:
        """Whether the value is one of the words."""
        return value in self.names

    def __str__(self) -> str:
        return " or ".join(filter(None, (", ".join(self.names[:-1]), self.names[-1])))


class Like(NamedTuple):
    """Text that matches a regular expression completely."""

    pattern: str
    text: str
    """A description of such text, for messages."""

    def holds(self, value: Any) -> bool:
        """Whether the value matches."""
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
    """The function or constructor, wrapped so that it refuses arguments that do not fit its annotations.

    The wrapper also replaces a ``~`` at the beginning of a path by the home folder, wherever ``Path`` is part of the
    annotation.

    Raises:
        ConfigError: By a call with an argument that does not fit.

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
        bound = signature.bind(*args, **keywords)
        for name, value in bound.arguments.items():
            if name in (takes := parameters(function)):
                annotation = takes[name].annotation
                if not fits(value, annotation):
                    raise ConfigError(f"{owner}.{name}: {mistake(value, annotation)}")
                bound.arguments[name] = expanded(value, annotation, f"{owner}.{name}")
        return function(*bound.args, **bound.kwargs)

    return cast(F, call)


def ordered(owner: object, low: str, high: str, least: float, most: float) -> None:
    """Check that ``least <= most``.

    Raises:
        ConfigError: If not; the message names the class and the two keywords.
    """
    if least > most:
        raise ConfigError(f"{type(owner).__name__}: {low} must not be above {high}; found {(least, most)}")


@functools.cache
def parameters(function: Callable[..., Any]) -> Parameters:
    """The parameters that can be passed by keyword, with evaluated annotations; ``"**"`` stands for any others.

    If a class with ``**`` extends a class whose constructor is checked, the parameters of that constructor replace it.
    """
    try:
        hints = get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    except NameError:  # a name that is imported only for type checkers: arguments are not checked
        hints = {}
    keywords: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            keywords |= handed_on(function) or {"**": parameter}
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            keywords[name] = parameter.replace(annotation=hints.get(name, Any))
    return keywords


def handed_on(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of the constructor that a class inherits from, if that constructor is checked; else empty."""
    above = inspect.getmro(function)[1:] if inspect.isclass(function) else ()
    parent = next((each for each in above if "__init__" in vars(each)), object)
    return dict(parameters(parent)) if hasattr(parent.__init__, "__wrapped__") else {}  # type: ignore[misc]


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value fits an annotation.

    Example:
        >>> fits(1, float), fits("abc", float | None), fits([64, 64], Sequence[int]), fits(True, int)
        (True, False, True, False)
        >>> fits(float("nan"), float), fits(0, Annotated[int, Range(1, 9)])
        (False, False)
    """
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        nowhere = isinstance(value, str) and not value and Path in inner  # Path("") would be the current folder
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
    """The message about a value that does not fit."""
    return f"{shown(value)} is not {described(annotation)}"


def shown(value: Any, room: int = 80) -> str:
    """The ``repr`` of a value for an error message, cut to ``room`` characters.

    Example:
        >>> shown("abc"), shown(10**20), shown("x" * 99, room=8)
        ("'abc'", '100000000000000000000', "'xxxxxxx...")
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of thousands of digits; lists nested too deeply
        text = f"a {type(value).__name__} too large to print"
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
    """A type in words, followed by each of its marks; for ``OneOf`` and ``Like`` the mark alone."""
    return " ".join(str(mark) if isinstance(mark, OneOf | Like) else f"{text} {mark}" for mark in marks)


def plural(annotation: Any) -> str:
    """An annotation in words, for the entries of a list."""
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
