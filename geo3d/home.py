"""Expansion of ``~`` at the beginning of a path, for every argument that is annotated as a path."""

import inspect
import os
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from geo3d.errors import ConfigError


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, also of nested ones; any other annotation alone."""
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(each for member in get_args(annotation) for each in alternatives(member))
    return (annotation,)


def expanded(value: Any, annotation: Any, option: str = "path") -> Any:
    """The value, with ``~`` replaced by the home folder where ``annotation`` has a path, also in lists and mappings.

    Raises:
        ConfigError: If this machine has no user ``name`` of a ``~name``; the message begins with ``option``.

    Example:
        >>> expanded("~/x", str), expanded("~/x", str | Path) == str(Path.home() / "x")
        ('~/x', True)
    """
    if not _mentions_path(annotation):
        return value
    if isinstance(value, str | Path) and Path in alternatives(annotation):
        try:
            return type(value)(home(str(value)))
        except ConfigError as error:
            raise ConfigError(f"{option}: {error}") from None
    for kind in alternatives(annotation):
        origin, inner = get_origin(kind), get_args(kind)
        if origin is Annotated:
            value = expanded(value, inner[0], option)
        elif isinstance(value, Mapping) and inspect.isclass(origin) and issubclass(origin, Mapping):
            value = {key: expanded(each, inner[1], f"{option}.{key}") for key, each in value.items()}
        elif isinstance(value, list | tuple) and inspect.isclass(origin) and issubclass(origin, Sequence):
            value = [expanded(each, inner[0], option) for each in value]
    return value


def home(path: str) -> str:
    """The path, with a ``~`` or ``~name`` at its beginning replaced by the home folder.

    Raises:
        ConfigError: If this machine has no user of that name.
    """
    full = os.path.expanduser(path)
    if full.startswith("~"):
        raise ConfigError(
            f"{path}: expected ~ or a user of this machine after it, found no such user; give the full path"
        )
    return full


def _mentions_path(annotation: Any) -> bool:
    return annotation is Path or any(map(_mentions_path, get_args(annotation)))
