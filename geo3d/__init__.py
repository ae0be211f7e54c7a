"""Geometric encoders pretrained without labels, by objectives that say what must not matter."""

import importlib
from typing import Any

__version__ = "0.3.0"

_HOMES = {
    "DGCNN": "geo3d.encoders",
    "PointNet": "geo3d.encoders",
    "PointNet2": "geo3d.encoders",
    "BYOL": "geo3d.objectives",
    "InfoNCE": "geo3d.objectives",
    "PointInfoNCE": "geo3d.objectives",
    "VICReg": "geo3d.objectives",
    "SO3": "geo3d.invariance",
    "Compose": "geo3d.invariance",
    "DataModule": "geo3d.tasks.datamodule",
    "Folder": "geo3d.data",
    "ModelNet": "geo3d.data",
    "Shapes": "geo3d.data",
    "collate": "geo3d.cloud",
    "read_cloud": "geo3d.io",
    "from_published": "geo3d.published",
    "load": "geo3d.checkpoint",
    "load_encoder": "geo3d.checkpoint",
    "save_encoder": "geo3d.checkpoint",
    "pretrain": "geo3d.jobs",
    "finetune": "geo3d.jobs",
    "probe": "geo3d.jobs",
}
"""Where each public name is defined."""

_NAMES = {"load": "load_encoder"}
"""What some are called there."""

__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    """A public name, imported when first asked for, so that ``import geo3d`` does not load torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'geo3d' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), _NAMES.get(name, name))


def __dir__() -> list[str]:
    """The public names, for completion."""
    return sorted([*_HOMES, "__version__"])
