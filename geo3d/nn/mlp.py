"""Shared multi-layer perceptrons: the same small network on every row."""

from collections.abc import Sequence

from torch import nn

from geo3d.nn.graph import Op
from geo3d.nn.linear import Linear, linear
from geo3d.nn.norm import BatchNorm


def mlp(channels: Sequence[int], *, last: bool = True, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear + BatchNorm + activation for each step of ``channels``; rows (M, channels[0]) -> (M, channels[-1]).

    Args:
        channels: Sizes from input to output.
        last: Whether the last layer also has a norm and an activation; if not, it is only linear, with a bias.
        activation: The class of the activations; each layer gets its own instance.
    """
    layers: list[nn.Module] = []
    for i, (inner, outer) in enumerate(zip(channels[:-1], channels[1:], strict=True)):
        plain = not last and i == len(channels) - 2
        layers.append(linear(inner, outer, bias=plain))
        if not plain:
            layers += [BatchNorm(outer), activation()]
    return nn.Sequential(*layers)


def sequential_ops(layers: nn.Sequential, in_channels: int) -> tuple[Op, ...]:
    """The operations of a small network on the cloud features: each linear layer with the norm and activation after it.

    Args:
        layers: Linear layers, norms, activations and dropouts; the network holds them in its attribute ``layers``.
        in_channels: Channels of the input.
    """
    return (Op("input", "cloud", number=in_channels), *logit_ops(layers, "cloud"))


def logit_ops(layers: nn.Sequential, source: str) -> tuple[Op, ...]:
    """The operations of the small network ``layers`` on the rows of the value ``source``; the last is ``logits``."""
    ops: list[Op] = []
    for i, layer in enumerate(layers):
        if isinstance(layer, Linear):
            ops.append(Op("dense", f"layers.{i}", (ops[-1].path if ops else source,)))
        elif isinstance(layer, BatchNorm):
            ops[-1] = ops[-1]._replace(norm=f"layers.{i}")
        elif isinstance(layer, nn.ReLU | nn.LeakyReLU):
            ops[-1] = ops[-1]._replace(slope=getattr(layer, "negative_slope", 0.0))
    return (*ops, Op("concat", "logits", (ops[-1].path,)))
