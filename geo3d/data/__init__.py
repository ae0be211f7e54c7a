"""Data sets: clouds by index, with class labels where there are any."""

from geo3d.data.folder import Folder
from geo3d.data.hands import ICVL, MSRA15, NYU, DexYCB, Hands
from geo3d.data.modelnet import ModelNet
from geo3d.data.mosd import MOSD
from geo3d.data.rooms import Rooms
from geo3d.data.s3dis import S3DIS
from geo3d.data.scannet import ScanNet, ScanNetFrames
from geo3d.data.scanobjectnn import ScanObjectNN
from geo3d.data.shapenetpart import ShapeNetPart
from geo3d.data.shapes import Shapes
from geo3d.data.store import Store

__all__ = [
    "ICVL",
    "MOSD",
    "MSRA15",
    "NYU",
    "S3DIS",
    "DexYCB",
    "Folder",
    "Hands",
    "ModelNet",
    "Rooms",
    "ScanNet",
    "ScanNetFrames",
    "ScanObjectNN",
    "ShapeNetPart",
    "Shapes",
    "Store",
]
