"""Every command as a plain Python function.

The command line, notebooks and other people's scripts call these; each writes its run folder and returns what it
wrote to ``metrics.json``.
"""

from geo3d.jobs.compression import compress
from geo3d.jobs.demonstration import demo
from geo3d.jobs.embedding import embed
from geo3d.jobs.finetuning import finetune
from geo3d.jobs.pretraining import pretrain
from geo3d.jobs.probing import probe
from geo3d.jobs.sweep import sweep

__all__ = ["compress", "demo", "embed", "finetune", "pretrain", "probe", "sweep"]
