"""ScanNet: rooms as meshes, with a class and an instance for every vertex."""

from geo3d.data.scannet.dataset import ScanNet

__all__ = ["ScanNet"]
