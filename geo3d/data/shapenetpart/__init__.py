"""ShapeNetPart: objects of 16 classes, with a part for every point."""

from geo3d.data.shapenetpart.dataset import ShapeNetPart

__all__ = ["ShapeNetPart"]
