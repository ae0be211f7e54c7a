"""Small networks behind an encoder."""

from geo3d.heads.cloud import Classifier, Predictor, Projector

__all__ = ["Classifier", "Predictor", "Projector"]
