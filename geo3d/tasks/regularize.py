"""Encoders in training, with what they themselves add to the loss."""

from typing import Any

from torch import Tensor
from torch_geometric.data import Batch


def encoded(encoder: Any, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """(B, cloud_channels) features of the clouds, and the encoder's own regulariser () for this pass; None without one.

    An encoder that has one says so by a method ``with_regularizer(batch) -> (Features, Tensor | None)``.
    """
    if hasattr(encoder, "with_regularizer"):
        features, penalty = encoder.with_regularizer(batch)
        return features.cloud, penalty
    return encoder(batch).cloud, None
