"""The forward pass in training, with the regulariser that some encoders add to the loss."""

from typing import Any

from torch import Tensor
from torch_geometric.data import Batch

from geo3d.cloud import Features


def encoded(encoder: Any, batch: Batch) -> tuple[Features, Tensor | None]:
    """The features of a batch, and the scalar regulariser of the encoder for this pass, or None if it has none.

    An encoder with a regulariser has a method ``with_regularizer(batch) -> (Features, Tensor | None)``.
    """
    if hasattr(encoder, "with_regularizer"):
        return encoder.with_regularizer(batch)
    return encoder(batch), None
