"""Scenes: what each mode of ``geo3d inspect`` shows."""
