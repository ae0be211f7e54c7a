"""Hands: generated ones, and readers of data sets of real ones before a depth camera."""

from geo3d.data.hands.dataset import Hands
from geo3d.data.hands.dexycb import DexYCB
from geo3d.data.hands.icvl import ICVL
from geo3d.data.hands.msra import MSRA15
from geo3d.data.hands.nyu import NYU

__all__ = ["ICVL", "MSRA15", "NYU", "DexYCB", "Hands"]
