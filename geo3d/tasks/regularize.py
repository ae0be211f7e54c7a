"""The forward pass in training, with the regulariser that some encoders add to the loss."""

from typing import Any

from torch import Tensor
from torch_geometric.data import Batch

from geo3d.cloud import Features
from geo3d.errors import ConfigError


def encoded(encoder: Any, batch: Batch) -> tuple[Features, Tensor | None]:
    """The features of a batch, and the scalar regulariser of the encoder for this pass, or None if it has none.

    An encoder with a regulariser has a method ``with_regularizer(batch) -> (Features, Tensor | None)``.

    Raises:
        ConfigError: If the encoder returns anything but features with as many channels as it says.
    """
    features, added = (
        encoder.with_regularizer(batch) if hasattr(encoder, "with_regularizer") else (encoder(batch), None)
    )
    name = type(encoder).__name__
    if not isinstance(features, Features):
        raise ConfigError(f"{name}.forward: expected geo3d.cloud.Features; found a {type(features).__name__}")
    for kind in ("point", "cloud"):
        said, shape = getattr(encoder, f"{kind}_channels"), tuple(getattr(features, kind).shape)
        if len(shape) != 2 or shape[1] != said:
            raise ConfigError(f"{name}.{kind}_channels is {said}, but forward gives features of shape {shape}")
    return features, added
