"""Smaller and faster encoders of the same interface: structure, prune, quantize, adapt, in this order.

Each step takes an encoder and returns a rewritten copy, which can then be trained: without labels from the start, by
distillation from the original encoder, or with labels.
"""

from geo3d.compress.adaptive.encoder import Adaptive, Setting, adapt
from geo3d.compress.pipeline import (
    SHAPING,
    added_loss,
    apply,
    finalize,
    outputs_left,
    parse_recipe,
    penalty,
    rebuild,
    with_keywords,
)
from geo3d.compress.prune import prune
from geo3d.compress.quantize import calibrate, quantize
from geo3d.compress.record import ORDER, records
from geo3d.compress.structure import input_moments, structure

__all__ = [
    "ORDER",
    "SHAPING",
    "Adaptive",
    "Setting",
    "adapt",
    "added_loss",
    "apply",
    "calibrate",
    "finalize",
    "input_moments",
    "parse_recipe",
    "outputs_left",
    "penalty",
    "prune",
    "quantize",
    "rebuild",
    "records",
    "structure",
    "with_keywords",
]
