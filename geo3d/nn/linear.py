"""The one place where the encoders' linear layers are made, so that other forms can take their place."""

from torch import nn


def linear(in_channels: int, out_channels: int, bias: bool = False) -> nn.Linear:
    """A layer with ``weight (out_channels, in_channels)``; geo3d's encoders put a norm behind it, hence no bias."""
    return nn.Linear(in_channels, out_channels, bias=bias)
