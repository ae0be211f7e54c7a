"""ScanNet: rooms as meshes, with a class and an instance for every vertex, and the frames they were made of."""

from geo3d.data.scannet.dataset import ScanNet
from geo3d.data.scannet.frames import ScanNetFrames
from geo3d.data.scannet.submission import write_submission

__all__ = ["ScanNet", "ScanNetFrames", "write_submission"]
