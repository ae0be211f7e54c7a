"""Stores: the clouds of a data set as plain NumPy arrays on disk, for data sets that do not fit in memory."""

from geo3d.data.store.build import build_store
from geo3d.data.store.dataset import Store

__all__ = ["Store", "build_store"]
