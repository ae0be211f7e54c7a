"""Decoders: from the features of an encoder to one row of features for every input point."""

from geo3d.decoders.feature_propagation import FeaturePropagation
from geo3d.decoders.global_concat import GlobalConcat
from geo3d.decoders.upcast import Upcast

__all__ = ["FeaturePropagation", "GlobalConcat", "Upcast"]
