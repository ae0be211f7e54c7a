"""Maps of clouds that should not change the features of an encoder: groups (with inverses) and nuisances."""

from geo3d.invariance.base import Compose, Element, Group, Invariance, parts_of
from geo3d.invariance.color import ColorDrop, ColorJitter
from geo3d.invariance.crop import CropCuboid, CropKNN
from geo3d.invariance.density import DensityGradient
from geo3d.invariance.drop import Drop, Resample
from geo3d.invariance.elastic import Elastic
from geo3d.invariance.jitter import Jitter
from geo3d.invariance.occlude import Occlude
from geo3d.invariance.permutation import Permutation
from geo3d.invariance.rotations import SO2, SO3
from geo3d.invariance.scalings import AnisotropicScale, Reflection, Scale
from geo3d.invariance.selection import Kept, Selection
from geo3d.invariance.tilt import Tilt
from geo3d.invariance.translation import Translation

__all__ = [
    "SO2",
    "SO3",
    "AnisotropicScale",
    "ColorDrop",
    "ColorJitter",
    "Compose",
    "CropCuboid",
    "CropKNN",
    "DensityGradient",
    "Drop",
    "Elastic",
    "Element",
    "Group",
    "Invariance",
    "Jitter",
    "Kept",
    "Occlude",
    "Permutation",
    "Reflection",
    "Resample",
    "Scale",
    "Selection",
    "Tilt",
    "Translation",
    "parts_of",
]
