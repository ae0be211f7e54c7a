"""The constructor keywords of a module."""

import inspect
from typing import Any

from torch import nn

from geo3d.errors import ConfigError


def keywords_of(module: nn.Module) -> dict[str, Any]:
    """The keywords to construct the module with, read from its attributes of the same names.

    A wrapped encoder, the module ``inner``, is left out.

    Raises:
        ConfigError: If a keyword is not kept as an attribute, or the attribute is a module.
    """
    values = {}
    for name in inspect.signature(type(module)).parameters:
        value = getattr(module, name, inspect.Parameter.empty)
        if name == "inner" and isinstance(value, nn.Module):
            continue
        if value is inspect.Parameter.empty or isinstance(value, nn.Module):
            raise ConfigError(f"{type(module).__name__}: does not keep its keyword {name} as an attribute of that name")
        values[name] = value
    return values
