"""Encoders in training, with what they themselves add to the loss."""

from typing import Any

from torch import Tensor
from torch_geometric.data import Batch

from geo3d.cloud import Features


def encoded(encoder: Any, batch: Batch) -> tuple[Features, Tensor | None]:
    """The features of a batch, and the encoder's own regulariser () for this pass; None without one.

    An encoder that has one says so by a method ``with_regularizer(batch) -> (Features, Tensor | None)``.
    """
    if hasattr(encoder, "with_regularizer"):
        return encoder.with_regularizer(batch)
    return encoder(batch), None
