"""Feature propagation of PointNet++ (arXiv 1706.02413): from coarse to fine, with a small network at every level."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from geo3d.checks import Length, Size, checked
from geo3d.cloud import Features
from geo3d.decoders.upcast import Channels
from geo3d.errors import ConfigError
from geo3d.nn.graph import Op
from geo3d.nn.linear import Linear, linear
from geo3d.nn.norm import BatchNorm
from geo3d.ops.search.three_nearest import interpolate, three_nearest

Sizes = Annotated[Sequence[Size], Length(1, 8)]


class FeaturePropagation(nn.Module):
    """(M, out_channels) features of the points, interpolated from level to level and joined with each level's own.

    The first step joins the coarsest level with the features of its cloud, as the published part segmentation does.
    With ``cloud=False`` the first step is the one between the two coarsest levels, as in the published scene
    segmentation. Each layer is linear with a bias, BatchNorm, ReLU.

    Args:
        level_channels: Channels of the encoder's levels, from fine to coarse.
        cloud_channels: Channels of the encoder's cloud features.
        channels: Layer sizes of each step, from coarse to fine. The defaults are those of the part segmentation.
        cloud: Whether to begin with the features of the cloud.
        input: Whether the last step joins the input channels of the points (coordinates first).

    Raises:
        ConfigError: If the encoder has no levels, or ``channels`` does not have one entry per step.
    """

    @checked
    def __init__(
        self,
        level_channels: Sequence[Channels],
        cloud_channels: Channels,
        channels: Annotated[Sequence[Sizes], Length(1, 9)] = ((256, 256), (256, 128), (128, 128, 128)),
        cloud: bool = True,
        input: bool = True,
    ) -> None:
        super().__init__()
        self.level_channels, self.cloud_channels = tuple(level_channels), cloud_channels
        self.channels, self.cloud, self.input = tuple(tuple(sizes) for sizes in channels), cloud, input
        if len(level_channels) < 2:
            raise ConfigError("FeaturePropagation needs an encoder with levels, such as PointNet2; use GlobalConcat")
        joined = list(level_channels if input else (0, *level_channels[1:]))
        wanted = len(joined) - (0 if cloud else 1)
        if len(channels) != wanted:
            raise ConfigError(
                f"channels: expected layer sizes of {wanted} steps, coarse to fine; found {len(channels)}"
            )
        below = cloud_channels if cloud else joined.pop()
        self.steps = nn.ModuleList()
        for skip, sizes in zip(reversed(joined), self.channels, strict=True):
            self.steps.append(_network([skip + below, *sizes]))
            below = sizes[-1]
        first = self.steps[-1].get_submodule("0")
        if input and isinstance(first, Linear):
            first.skip = min(3, level_channels[0])  # coordinates are never rounded
        self.out_channels = below

    def forward(self, features: Features) -> Tensor:
        """(M, out_channels) features of the points from those of the encoder."""
        levels = list(features.levels)
        steps = iter(self.steps)
        x = levels[-1].x
        if self.cloud:
            sizes = levels[-1].layout.ptr.diff()
            cloud = features.cloud.repeat_interleave(sizes, 0, output_size=len(x))
            x = next(steps)(torch.cat([x, cloud], 1))
        for i in range(len(levels) - 2, -1, -1):
            fine, coarse = levels[i], levels[i + 1]
            x = interpolate(x, *three_nearest(fine.pos, fine.layout, coarse.pos, coarse.layout))
            x = next(steps)(torch.cat([fine.x, x], 1) if i or self.input else x)
        return x

    def layer_graph(self) -> tuple[Op, ...]:
        """The operations, see :mod:`geo3d.nn.graph`."""
        last = len(self.level_channels) - 1
        ops = [Op("input", "cloud", number=self.cloud_channels)] if self.cloud else []
        for i, channels in enumerate(self.level_channels):
            ops += [Op("input", f"levels.{i}.pos", number=3), Op("input", f"levels.{i}.x", number=channels)]
        x, step = f"levels.{last}.x", 0
        if self.cloud:
            ops += [Op("expand", "cloud.rows", ("cloud", x)), Op("concat", f"joined.{last}", (x, "cloud.rows"))]
            ops += _layers(f"steps.{step}", f"joined.{last}", len(self.channels[step]))
            x, step = ops[-1].path, 1
        for i in range(last - 1, -1, -1):
            ops.append(Op("interpolate", f"up.{i}", (x, f"levels.{i + 1}.pos", f"levels.{i}.pos"), k=3))
            skip = (f"levels.{i}.x",) if i or self.input else ()
            ops.append(Op("concat", f"joined.{i}", (*skip, f"up.{i}")))
            ops += _layers(f"steps.{step}", f"joined.{i}", len(self.channels[step]))
            x, step = ops[-1].path, step + 1
        return (*ops, Op("concat", "rows", (x,)))


def _network(channels: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inner, outer in zip(channels[:-1], channels[1:], strict=True):
        layers += [linear(inner, outer, bias=True), BatchNorm(outer), nn.ReLU()]
    return nn.Sequential(*layers)


def _layers(path: str, source: str, count: int) -> list[Op]:
    ops: list[Op] = []
    for i in range(count):
        ops.append(Op("dense", f"{path}.{3 * i}", (source,), f"{path}.{3 * i + 1}", 0.0))
        source = ops[-1].path
    return ops
