"""Layers of the encoders."""
