"""Small networks behind an encoder or a decoder."""

from geo3d.heads.cloud import Classifier, Predictor, Projector
from geo3d.heads.joints import JointRegressor
from geo3d.heads.point import PointClassifier
from geo3d.heads.refinement import JointRefiner
from geo3d.heads.voting import JointVoter

__all__ = ["Classifier", "JointRefiner", "JointRegressor", "JointVoter", "PointClassifier", "Predictor", "Projector"]
