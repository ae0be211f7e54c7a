"""Small networks behind an encoder or a decoder."""

from geo3d.heads.cloud import Classifier, Predictor, Projector
from geo3d.heads.point import PointClassifier

__all__ = ["Classifier", "PointClassifier", "Predictor", "Projector"]
