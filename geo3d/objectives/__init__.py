"""Objectives of pretraining: what embeddings of the views of the same clouds should have in common.

``__all__`` names what a run can choose. The formula of each lies beside it as a pure function, for example
``geo3d.objectives.vicreg.variance``; ``geo3d.objectives.objective.Objective`` is what your own objective extends.
"""

from geo3d.objectives.barlow_twins import BarlowTwins
from geo3d.objectives.byol import BYOL
from geo3d.objectives.info_nce import InfoNCE
from geo3d.objectives.moco import MoCo
from geo3d.objectives.point_info_nce import PointInfoNCE
from geo3d.objectives.vicreg import VICReg

__all__ = ["BYOL", "BarlowTwins", "InfoNCE", "MoCo", "PointInfoNCE", "VICReg"]
