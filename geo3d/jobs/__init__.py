"""Every command that runs a job, as a plain Python function.

The command line, notebooks and scripts call these functions. Each writes a run folder or a file and returns figures.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geo3d.jobs.compression import compress
    from geo3d.jobs.demonstration import demo
    from geo3d.jobs.embedding import embed
    from geo3d.jobs.finetuning import finetune
    from geo3d.jobs.inspecting import inspect
    from geo3d.jobs.predicting import predict
    from geo3d.jobs.pretraining import pretrain
    from geo3d.jobs.probing import probe
    from geo3d.jobs.scoring import score
    from geo3d.jobs.sweeping import sweep

__all__ = ["compress", "demo", "embed", "finetune", "inspect", "predict", "pretrain", "probe", "score", "sweep"]

_HOMES = {
    "compress": "compression",
    "demo": "demonstration",
    "embed": "embedding",
    "finetune": "finetuning",
    "inspect": "inspecting",
    "predict": "predicting",
    "pretrain": "pretraining",
    "probe": "probing",
    "score": "scoring",
    "sweep": "sweeping",
}
"""The file of each job."""


def __getattr__(name: str) -> Any:
    """A job, imported when first asked for, so that a picture of a cloud need not wait for the tools of training."""
    if name not in __all__:
        raise AttributeError(f"module 'geo3d.jobs' has no attribute {name!r}")
    return getattr(importlib.import_module(f"geo3d.jobs.{_HOMES[name]}"), name)
