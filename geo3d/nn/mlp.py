"""Shared multi-layer perceptrons: the same small network for every row."""

from collections.abc import Sequence

from torch import nn

from geo3d.nn.linear import linear
from geo3d.nn.norm import BatchNorm


def mlp(channels: Sequence[int], *, last: bool = True, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear + BatchNorm + activation for each step of ``channels``; rows (M, channels[0]) -> (M, channels[-1]).

    Args:
        channels: Sizes from input to output.
        last: Whether the last layer, too, has its norm and activation; without, it is linear with a bias.
        activation: Made anew for each layer.
    """
    layers: list[nn.Module] = []
    for i, (inner, outer) in enumerate(zip(channels[:-1], channels[1:], strict=True)):
        plain = not last and i == len(channels) - 2
        layers.append(linear(inner, outer, bias=plain))
        if not plain:
            layers += [BatchNorm(outer), activation()]
    return nn.Sequential(*layers)
