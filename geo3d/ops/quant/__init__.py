"""Fake quantisation, and layers on 8-bit codes."""
