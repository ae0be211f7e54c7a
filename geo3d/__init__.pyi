from geo3d.checkpoint import load_encoder as load
from geo3d.checkpoint import load_encoder as load_encoder
from geo3d.checkpoint import save_encoder as save_encoder
from geo3d.cloud import collate as collate
from geo3d.data import Folder as Folder
from geo3d.data import ModelNet as ModelNet
from geo3d.data import Shapes as Shapes
from geo3d.encoders import DGCNN as DGCNN
from geo3d.encoders import PointNet as PointNet
from geo3d.encoders import PointNet2 as PointNet2
from geo3d.invariance import SO3 as SO3
from geo3d.invariance import Compose as Compose
from geo3d.io import read_cloud as read_cloud
from geo3d.jobs import finetune as finetune
from geo3d.jobs import pretrain as pretrain
from geo3d.jobs import probe as probe
from geo3d.objectives import BYOL as BYOL
from geo3d.objectives import InfoNCE as InfoNCE
from geo3d.objectives import PointInfoNCE as PointInfoNCE
from geo3d.objectives import VICReg as VICReg
from geo3d.published import from_published as from_published
from geo3d.tasks.datamodule import DataModule as DataModule

__version__: str
__all__ = [
    "BYOL",
    "DGCNN",
    "SO3",
    "Compose",
    "DataModule",
    "Folder",
    "InfoNCE",
    "ModelNet",
    "PointInfoNCE",
    "PointNet",
    "PointNet2",
    "Shapes",
    "VICReg",
    "collate",
    "finetune",
    "from_published",
    "load",
    "load_encoder",
    "pretrain",
    "probe",
    "read_cloud",
    "save_encoder",
]
