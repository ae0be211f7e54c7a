"""Data sets: clouds by index, with class labels where there are any."""

from geo3d.data.folder import Folder
from geo3d.data.modelnet import ModelNet
from geo3d.data.mosd import MOSD
from geo3d.data.scannet import ScanNet
from geo3d.data.shapes import Shapes
from geo3d.data.store import Store

__all__ = ["MOSD", "Folder", "ModelNet", "ScanNet", "Shapes", "Store"]
