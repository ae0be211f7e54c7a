"""Object clouds generated on demand: thirty-odd classes composed of parts that the classes share."""

from geo3d.data.shapes.dataset import CLASSES, Shapes, generate
from geo3d.data.shapes.placing import PARTS

__all__ = ["CLASSES", "PARTS", "Shapes", "generate"]
