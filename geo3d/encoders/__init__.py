"""Encoders: a batch of clouds in, features of the points and of the clouds out."""

from geo3d.encoders.dgcnn import DGCNN
from geo3d.encoders.pointnet import PointNet
from geo3d.encoders.pointnet2 import PointNet2

__all__ = ["DGCNN", "PointNet", "PointNet2"]
