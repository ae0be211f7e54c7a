"""Rotations, normalisation and triangles."""
