"""Encoders: from a batch of clouds to features of the points and of the clouds."""

from geo3d.encoders.dgcnn import DGCNN
from geo3d.encoders.pointnet import PointNet
from geo3d.encoders.pointnet2 import PointNet2
from geo3d.encoders.segmentation_dgcnn import SegmentationDGCNN

__all__ = ["DGCNN", "PointNet", "PointNet2", "SegmentationDGCNN"]
