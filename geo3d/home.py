"""One meaning of ``~`` at the beginning of a path, wherever a signature asks for one."""

import inspect
import os
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from geo3d.errors import ConfigError


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, one after another; of anything else itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(each for member in get_args(annotation) for each in alternatives(member))
    return (annotation,)


def expanded(value: Any, annotation: Any, option: str = "path") -> Any:
    """The value, with the home folder for a ``~`` where ``annotation`` asks for a path, in lists and mappings too.

    Raises:
        ConfigError: If the machine knows no user of a ``~name``; the message begins with ``option``.

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
    """The path, with the home folder in place of a ``~`` or ``~name`` at its beginning.

    Raises:
        ConfigError: If the machine knows no user of that name.
    """
    whole = os.path.expanduser(path)
    if whole.startswith("~"):
        raise ConfigError(
            f"{path}: expected ~ or a user of this machine behind it, found no such user; give a whole path"
        )
    return whole


def _mentions_path(annotation: Any) -> bool:
    return annotation is Path or any(map(_mentions_path, get_args(annotation)))
