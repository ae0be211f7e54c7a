"""Rounding to few bits, and layers on 8-bit codes."""
