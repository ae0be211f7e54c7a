"""Rooms made on demand and scanned by a simulated depth camera."""

from geo3d.data.rooms.dataset import Rooms

__all__ = ["Rooms"]
