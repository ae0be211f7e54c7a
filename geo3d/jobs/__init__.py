"""Every command that runs a job, as a plain Python function.

The command line, notebooks and scripts call these functions. Each writes a run folder and returns its metrics.
"""

from geo3d.jobs.compression import compress
from geo3d.jobs.demonstration import demo
from geo3d.jobs.embedding import embed
from geo3d.jobs.finetuning import finetune
from geo3d.jobs.predicting import predict
from geo3d.jobs.pretraining import pretrain
from geo3d.jobs.probing import probe
from geo3d.jobs.scoring import score
from geo3d.jobs.sweep import sweep

__all__ = ["compress", "demo", "embed", "finetune", "predict", "pretrain", "probe", "score", "sweep"]
