"""The constructor keywords of a module."""

import inspect
from typing import Any

from torch import nn


def keywords_of(module: nn.Module) -> dict[str, Any]:
    """The keywords to construct the module with, read from its attributes of the same names; ``inner`` is left out."""
    names = [name for name in inspect.signature(type(module).__init__).parameters if name not in ("self", "inner")]
    return {name: getattr(module, name) for name in names}
