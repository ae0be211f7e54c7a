"""Features of all levels, interpolated to the input points and concatenated; no parameters."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from geo3d.checks import Range, checked
from geo3d.cloud import Features
from geo3d.errors import ConfigError
from geo3d.nn.graph import Op
from geo3d.ops.search.three_nearest import interpolate, three_nearest

Channels = Annotated[int, Range(1, 1_000_000)]


class Upcast(nn.Module):
    """(M, out_channels) features of coarse levels, interpolated from three neighbours and concatenated.

    For an encoder that keeps all its points, whose only level is the input, this returns its point features.

    Args:
        point_channels: Channels of the encoder's point features.
        level_channels: Channels of the encoder's levels, from fine to coarse.
        finest: The finest level whose features are taken; by default all but the input.

    Raises:
        ConfigError: If the encoder has no such level.

    Example:
        >>> from geo3d.encoders import PointNet2
        >>> encoder = PointNet2(num_samples=(16, 4), width=0.25).eval()
        >>> decoder = Upcast(encoder.point_channels, encoder.level_channels)
        >>> from torch_geometric.data import Data
        >>> decoder(encoder(Data(pos=torch.eye(3).repeat(10, 1)))).shape
        torch.Size([30, 96])
    """

    @checked
    def __init__(
        self, point_channels: Channels, level_channels: Sequence[Channels] = (), finest: Annotated[int, Range(1, 8)] = 1
    ) -> None:
        super().__init__()
        if finest > max(len(level_channels) - 1, 1):
            coarsest = max(len(level_channels) - 1, 0)
            raise ConfigError(f"finest={finest}, but the coarsest level of the encoder is {coarsest}")
        self.point_channels, self.level_channels, self.finest = point_channels, tuple(level_channels), finest
        self.out_channels = sum(level_channels[finest:]) or point_channels

    def forward(self, features: Features) -> Tensor:
        """(M, out_channels) features of the points from those of the encoder."""
        if len(features.levels) < 2:
            return features.point
        fine, coarser = features.levels[0], features.levels[self.finest :]
        nearest = [three_nearest(fine.pos, fine.layout, level.pos, level.layout) for level in coarser]
        return torch.cat([interpolate(level.x, *near) for level, near in zip(coarser, nearest, strict=True)], 1)

    def layer_graph(self) -> tuple[Op, ...]:
        """The operations, see :mod:`geo3d.nn.graph`."""
        count = len(self.level_channels)
        if count < 2:
            return (Op("input", "point", number=self.point_channels), Op("concat", "rows", ("point",)))
        ops = [Op("input", "levels.0.pos", number=3)]
        for i in range(self.finest, count):
            channels = self.level_channels[i]
            ops += [Op("input", f"levels.{i}.pos", number=3), Op("input", f"levels.{i}.x", number=channels)]
            ops.append(Op("interpolate", f"up.{i}", (f"levels.{i}.x", f"levels.{i}.pos", "levels.0.pos"), k=3))
        return (*ops, Op("concat", "rows", tuple(f"up.{i}" for i in range(self.finest, count))))
