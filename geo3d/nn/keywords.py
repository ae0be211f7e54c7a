"""The keywords that a module was made with."""

import inspect
from typing import Any

from torch import nn


def keywords_of(module: nn.Module) -> dict[str, Any]:
    """The constructor's keywords, read from the attributes of the same names; without ``inner``, a wrapped module."""
    names = [name for name in inspect.signature(type(module).__init__).parameters if name not in ("self", "inner")]
    return {name: getattr(module, name) for name in names}
