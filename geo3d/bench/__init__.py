"""Measurements of geo3d against the published forms, PyTorch Geometric and public packages, on equal outputs."""
