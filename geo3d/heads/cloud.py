"""Small networks behind an encoder's cloud feature: projector, predictor, classifier."""

from collections.abc import Sequence
from typing import Annotated, TypeVar

from torch import Tensor, nn

from geo3d.checks import Length, Range, Share, Size, checked
from geo3d.errors import ConfigError
from geo3d.nn.graph import Op
from geo3d.nn.linear import linear
from geo3d.nn.mlp import mlp, sequential_ops
from geo3d.nn.norm import BatchNorm

T = TypeVar("T", bool, float)
Width = Annotated[int, Range(1, 1_000_000)]
"""Channels of an encoder's cloud feature."""


class Projector(nn.Module):
    """(B, out_channels) embeddings, which objectives compare, from cloud features (B, in_channels).

    Layers of Linear + BatchNorm + ReLU; the last layer is linear only, with a bias (SimCLR, arXiv 2002.05709).

    Args:
        in_channels: Size of the encoder's cloud feature.
        hidden: Size of the hidden layers.
        out_channels: Size of the embeddings.
        num_layers: Number of linear layers.
    """

    @checked
    def __init__(
        self,
        in_channels: Width,
        hidden: Size = 512,
        out_channels: Size = 128,
        num_layers: Annotated[int, Range(1, 16)] = 2,
    ) -> None:
        super().__init__()
        self.in_channels, self.hidden = in_channels, hidden
        self.out_channels, self.num_layers = out_channels, num_layers
        self.layers = mlp([in_channels, *[hidden] * (num_layers - 1), out_channels], last=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, out_channels) embeddings."""
        return self.layers(x)

    def layer_graph(self) -> tuple[Op, ...]:
        """The operations, see :mod:`geo3d.nn.graph`."""
        return sequential_ops(self.layers, self.in_channels)


class Predictor(nn.Module):
    """(B, channels) predictions of the teacher's embeddings from embeddings (B, channels) (BYOL, arXiv 2006.07733).

    Args:
        channels: Size of the embeddings.
        hidden: Size of the hidden layer.
    """

    @checked
    def __init__(self, channels: Size = 128, hidden: Size = 512) -> None:
        super().__init__()
        self.channels, self.hidden = channels, hidden
        self.layers = mlp([channels, hidden, channels], last=False)

    def forward(self, z: Tensor) -> Tensor:
        """(B, channels) predictions of the teacher's embeddings."""
        return self.layers(z)

    def layer_graph(self) -> tuple[Op, ...]:
        """The operations, see :mod:`geo3d.nn.graph`."""
        return sequential_ops(self.layers, self.channels)


class Classifier(nn.Module):
    """(B, num_classes) logits from cloud features (B, in_channels).

    For each hidden size: linear, BatchNorm, LeakyReLU, dropout; then a linear layer with a bias. The defaults are those
    of the head published with DGCNN (arXiv 1801.07829). The heads in the widely used PyTorch versions of the other
    two encoders are

    - PointNet++ (arXiv 1706.02413): ``bias=True, dropout=0.4, negative_slope=0`` (multi-scale:
      ``dropout=(0.4, 0.5)``);
    - PointNet (arXiv 1612.00593): ``bias=True, dropout=(0, 0.4), negative_slope=0, dropout_first=True``.

    Args:
        in_channels: Size of the encoder's cloud feature.
        num_classes: Number of logits.
        hidden: Sizes of the hidden layers.
        bias: Whether each hidden linear layer has a bias: one value for all, or one per layer. If left out, all
            but the first have one.
        dropout: Probability of setting a channel to zero: one value for all, or one per layer.
        negative_slope: Slope of the LeakyReLU below zero; 0 makes it a ReLU.
        dropout_first: Whether dropout comes before the norm instead of after the activation.

    Example:
        >>> sum(p.numel() for p in Classifier(2048, 40).parameters())
        1191720
    """

    @checked
    def __init__(
        self,
        in_channels: Width,
        num_classes: Annotated[int, Range(1, 100_000)],
        hidden: Annotated[Sequence[Size], Length(0, 16)] = (512, 256),
        bias: bool | Sequence[bool] | None = None,
        dropout: Share | Sequence[Share] = 0.5,
        negative_slope: Share = 0.2,
        dropout_first: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.num_classes, self.hidden = in_channels, num_classes, tuple(hidden)
        self.negative_slope, self.dropout_first = negative_slope, dropout_first
        self.bias = each("bias", [i > 0 for i in range(len(hidden))] if bias is None else bias, len(hidden))
        self.dropout = each("dropout", dropout, len(hidden))
        layers: list[nn.Module] = []
        channels = in_channels
        for size, has_bias, p in zip(self.hidden, self.bias, self.dropout, strict=True):
            layers.append(linear(channels, size, bias=has_bias))
            behind: list[nn.Module] = [BatchNorm(size), nn.LeakyReLU(negative_slope)]
            drop: list[nn.Module] = [nn.Dropout(p)] if p else []
            layers += drop + behind if dropout_first else behind + drop
            channels = size
        layers.append(linear(channels, num_classes, bias=True))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, num_classes) logits, before any softmax."""
        return self.layers(x)

    def layer_graph(self) -> tuple[Op, ...]:
        """The operations, see :mod:`geo3d.nn.graph`."""
        return sequential_ops(self.layers, self.in_channels)


def each(name: str, value: T | Sequence[T], length: int) -> tuple[T, ...]:
    """``length`` values, one per layer: ``value`` repeated, or its entries.

    Raises:
        ConfigError: If it is a sequence of another length.
    """
    if not isinstance(value, Sequence):
        return (value,) * length
    if len(value) != length:
        raise ConfigError(f"{name} has {len(value)} values for {length} hidden layers; give one for each, or only one")
    return tuple(value)
