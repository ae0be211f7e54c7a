"""A decoder that fits an encoder."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from geo3d.errors import ConfigError


def decoder_for(encoder: nn.Module, make: Callable[..., nn.Module], **keywords: Any) -> nn.Module:
    """A decoder made by ``make`` with the channels of the encoder.

    Args:
        encoder: Has ``point_channels``, ``cloud_channels`` and ``level_channels``.
        make: A class of ``geo3d.decoders``, or a function that takes some of these three keywords.
        keywords: Further arguments of ``make``.

    Raises:
        ConfigError: If the encoder does not say how many channels it has there.

    Example:
        >>> from geo3d.encoders import PointNet2
        >>> from geo3d.decoders.upcast import Upcast
        >>> decoder_for(PointNet2(), Upcast).out_channels
        384
    """
    takes = inspect.signature(make).parameters
    channels = ("point_channels", "cloud_channels", "level_channels")
    reads = [name for name in channels if name in takes]
    for name in reads:
        if not hasattr(encoder, name):
            kind = type(encoder).__name__
            raise ConfigError(f"{kind} has no {name}, which this decoder reads; declare it, or use another decoder")
    return make(**{name: getattr(encoder, name) for name in reads}, **keywords)
