"""The constructor keywords of a module."""

import inspect
from typing import Any

from torch import nn

from geo3d.errors import ConfigError


def keywords_of(module: nn.Module) -> dict[str, Any]:
    """The keywords to construct the module with, read from its attributes of the same names; ``inner`` is left out."""
    names = [name for name in inspect.signature(type(module).__init__).parameters if name not in ("self", "inner")]
    for name in names:
        if not hasattr(module, name):
            raise ConfigError(f"{type(module).__name__}: does not keep its keyword {name} as an attribute of that name")
    return {name: getattr(module, name) for name in names}
