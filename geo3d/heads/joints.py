"""Joints of a hand from an encoder's cloud features, with their uncertainty."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from torch import Tensor, nn

from geo3d.checks import Length, Range, Share, Size, checked
from geo3d.cloud import Features, Level
from geo3d.heads.cloud import Width
from geo3d.nn.linear import linear
from geo3d.nn.norm import BatchNorm

Number = Annotated[int, Range(1, 1000)]
"""How many joints."""


class Estimate(NamedTuple):
    """Where joints are believed to be, in the coordinates that the encoder sees."""

    joints: Tensor
    """(B, J, 3)"""
    log_std: Tensor
    """(B, J) logarithm of the standard deviation of each coordinate of a joint."""
    go_on: Tensor | None = None
    """(B,) logit of whether a further step would make it better; None for heads of one step."""


def anchors_of(features: Features) -> Level:
    """The points from which joints are found: the centres of the first level, or all points if there are no levels."""
    if len(features.levels) > 1:
        return features.levels[1]
    first = features.levels[0]
    return Level(first.pos, first.layout, features.point)


def anchor_channels(encoder: nn.Module) -> int:
    """The number of channels of the points that :func:`anchors_of` chooses."""
    levels = tuple(encoder.level_channels)  # type: ignore[arg-type]
    return int(levels[1] if len(levels) > 1 else encoder.point_channels)  # type: ignore[arg-type]


def as_estimate(rows: Tensor) -> Estimate:
    """The estimate in rows (B, J, 4): three coordinates and the logarithm of their standard deviation."""
    return Estimate(rows[..., :3], rows[..., 3].clamp(-8, 2))


class JointRegressor(nn.Module):
    """One estimate of all joints from cloud features (B, in_channels), by linear layers.

    Args:
        in_channels: Channels of the encoder's cloud features.
        num_joints: J, the number of joints.
        hidden: Sizes of the hidden layers, each with BatchNorm and LeakyReLU.
        dropout: Dropout before the last layer.

    Example:
        >>> import torch
        >>> from geo3d.cloud import Features
        >>> head = JointRegressor(8, 21, hidden=(16,)).eval()
        >>> head(Features(torch.zeros(5, 4), torch.zeros(2, 8)))[0].joints.shape
        torch.Size([2, 21, 3])
    """

    @checked
    def __init__(
        self,
        in_channels: Width,
        num_joints: Number = 21,
        hidden: Annotated[Sequence[Size], Length(0, 16)] = (512, 256),
        dropout: Share = 0.0,
    ) -> None:
        super().__init__()
        self.in_channels, self.num_joints, self.hidden, self.dropout = in_channels, num_joints, tuple(hidden), dropout
        layers: list[nn.Module] = []
        channels = in_channels
        for size in self.hidden:
            layers += [linear(channels, size), BatchNorm(size), nn.LeakyReLU(0.2)]
            channels = size
        layers += [nn.Dropout(dropout)] if dropout else []
        layers.append(linear(channels, 4 * num_joints, bias=True))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Features) -> list[Estimate]:
        """One estimate."""
        return [as_estimate(self.layers(features.cloud).unflatten(1, (self.num_joints, 4)))]
