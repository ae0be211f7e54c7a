"""Object clouds generated on demand: thirty-odd classes composed of parts that the classes share."""

from geo3d.data.shapes.assembly import PARTS
from geo3d.data.shapes.dataset import CLASSES, Shapes, generate

__all__ = ["CLASSES", "PARTS", "Shapes", "generate"]
