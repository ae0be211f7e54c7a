"""Neighbours, balls, farthest points and voxels."""
