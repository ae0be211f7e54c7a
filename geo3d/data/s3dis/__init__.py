"""S3DIS: rooms of six areas of buildings, with a class for every point."""

from geo3d.data.s3dis.dataset import S3DIS

__all__ = ["S3DIS"]
