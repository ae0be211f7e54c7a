"""Geometric encoders pretrained without labels, by objectives that say what must not matter."""

import importlib
from typing import Any

__version__ = "0.2.0"
__all__ = ["from_published", "load_encoder", "save_encoder"]

_HOMES = {
    "from_published": "geo3d.encoders.published",
    "load_encoder": "geo3d.checkpoint",
    "save_encoder": "geo3d.checkpoint",
}


def __getattr__(name: str) -> Any:
    """Public functions, imported when first asked for, so that ``import geo3d`` does not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'geo3d' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
