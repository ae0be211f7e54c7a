"""Pretraining objectives: losses on the embeddings of several views of the same clouds.

``__all__`` lists the objectives that a run can choose. The formula of each is a pure function in the same file, for
example ``geo3d.objectives.vicreg.variance``. Your own objective extends ``geo3d.objectives.objective.Objective``.
"""

from geo3d.objectives.barlow_twins import BarlowTwins
from geo3d.objectives.byol import BYOL
from geo3d.objectives.completion import Completion
from geo3d.objectives.equivariant_info_nce import EquivariantInfoNCE
from geo3d.objectives.info_nce import InfoNCE
from geo3d.objectives.masked_scene_contrast import MaskedSceneContrast
from geo3d.objectives.moco import MoCo
from geo3d.objectives.partitioned_info_nce import PartitionedInfoNCE
from geo3d.objectives.point_info_nce import PointInfoNCE
from geo3d.objectives.point_prototypes import PointPrototypes
from geo3d.objectives.vicreg import VICReg

__all__ = [
    "BYOL",
    "BarlowTwins",
    "Completion",
    "EquivariantInfoNCE",
    "InfoNCE",
    "MaskedSceneContrast",
    "MoCo",
    "PartitionedInfoNCE",
    "PointInfoNCE",
    "PointPrototypes",
    "VICReg",
]
