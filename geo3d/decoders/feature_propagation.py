"""Feature propagation of PointNet++ (arXiv 1706.02413): from coarse to fine, with a small network at every level."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geo3d.checks import Length, Range, Size, checked
from geo3d.cloud import Features, Layout
from geo3d.decoders.upcast import Channels
from geo3d.errors import ConfigError
from geo3d.nn.category import one_hot_categories
from geo3d.nn.folded import rows_through
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
        channels: Layer sizes of each step, from coarse to fine. By default those of the published single-scale
            networks: (256, 256) for each step but the last two, (256, 128), and (128, 128, 128).
        cloud: Whether to begin with the features of the cloud.
        input: Whether the last step joins the input channels of the points (coordinates first).
        categories: Number of categories of clouds. If above 0, the last step also reads the category of each cloud, as
            the published part segmentation does.
        positions: Whether the last step joins the positions of the points. The published part segmentation reads them
            here and once more as ``input``.

    Raises:
        ConfigError: If the encoder has no levels, or ``channels`` does not have one entry per step.

    Example:
        >>> levels, cloud = (3, 128, 256), 1024  # the single-scale part network with 16 categories
        >>> decoder = FeaturePropagation(levels, cloud, categories=16, positions=True)
        >>> decoder.steps[2][0].weight.shape
        torch.Size([128, 150])
    """

    @checked
    def __init__(
        self,
        level_channels: Sequence[Channels],
        cloud_channels: Channels,
        channels: Annotated[Sequence[Sizes], Length(1, 9)] | None = None,
        cloud: bool = True,
        input: bool = True,
        categories: Annotated[int, Range(0, 100_000)] = 0,
        positions: bool = False,
    ) -> None:
        super().__init__()
        self.level_channels, self.cloud_channels = tuple(level_channels), cloud_channels
        self.cloud, self.input = cloud, input
        self.categories, self.positions = categories, positions
        if len(level_channels) < 2:
            raise ConfigError("FeaturePropagation needs an encoder with levels, such as PointNet2; use GlobalConcat")
        finest = categories + (3 if positions else 0) + (level_channels[0] if input else 0)
        joined = [finest, *level_channels[1:]]
        wanted = len(joined) - (0 if cloud else 1)
        if channels is None:
            channels = [*[(256, 256)] * (wanted - 2), (256, 128), (128, 128, 128)][-wanted:]
        self.channels = tuple(tuple(sizes) for sizes in channels)
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
        if isinstance(first, Linear):  # neither categories nor coordinates are rounded, and they come first
            first.skip = finest - (max(level_channels[0] - 3, 0) if input else 0)
        self.out_channels = below

    def forward(self, features: Features, category: Tensor | None = None) -> Tensor:
        """(M, out_channels) features of the points from those of the encoder.

        Args:
            features: Those of the encoder.
            category: (B,) int64 category of each cloud, if the decoder has ``categories``.

        Raises:
            CloudError: If the decoder has categories and none are given, or they do not fit.
        """
        levels = list(features.levels)
        known = self._known(category, levels[0].layout) if self.categories else None
        steps = iter(self.steps)
        x = levels[-1].x
        if self.cloud:
            sizes = levels[-1].layout.ptr.diff()
            cloud = features.cloud.repeat_interleave(sizes, 0, output_size=len(x))
            x = _through(next(steps), torch.cat([x, cloud], 1))
        for i in range(len(levels) - 2, -1, -1):
            fine, coarse = levels[i], levels[i + 1]
            x = interpolate(x, *three_nearest(fine.pos, fine.layout, coarse.pos, coarse.layout))
            if i:
                x = _through(next(steps), torch.cat([fine.x, x], 1))
        own = [levels[0].pos] * self.positions + [levels[0].x] * self.input
        return _told(next(steps), torch.cat([*own, x], 1), known, levels[0].layout)

    def _known(self, category: Tensor | None, layout: Layout) -> Tensor:
        """(B, categories) the category of each cloud, in the type of the weights."""
        one_hot = one_hot_categories(category, self.categories, layout, "the decoder")
        return one_hot.to(next(self.steps.parameters()).dtype)

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
            if self.positions and not i:
                skip = ("levels.0.pos", *skip)
            if self.categories and not i:
                ops.append(Op("input", "y", number=self.categories))
                ops.append(Op("expand", "category.rows", ("y", "levels.0.pos")))
                skip = ("category.rows", *skip)
            ops.append(Op("concat", f"joined.{i}", (*skip, f"up.{i}")))
            ops += _layers(f"steps.{step}", f"joined.{i}", len(self.channels[step]))
            x, step = ops[-1].path, step + 1
        return (*ops, Op("concat", "rows", (x,)))


def _network(channels: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inner, outer in zip(channels[:-1], channels[1:], strict=True):
        layers += [linear(inner, outer, bias=True), BatchNorm(outer), nn.ReLU()]
    return nn.Sequential(*layers)


def _told(step: nn.Module, rows: Tensor, known: Tensor | None, layout: Layout) -> Tensor:
    """What a step makes of the columns ``[known, rows]``; ``known`` (B, K) is the same for all points of a cloud."""
    if known is None:
        return _through(step, rows)
    assert isinstance(step, nn.Sequential)
    sizes, first = layout.ptr.diff(), step[0]
    assert isinstance(first, Linear)
    if first.pool is not None or first.input_quantizer is not None:
        of_points = known.repeat_interleave(sizes, 0, output_size=len(rows))
        return step(torch.cat([of_points, rows], 1))
    # Multiplied once per cloud, so that a category is one row of the weights and has no columns among the points.
    of_known, of_rows = first.matrix().split([known.shape[1], rows.shape[1]], 1)
    of_cloud = F.linear(known, of_known)
    through = rows_through(step, rows, of_rows, of_cloud, layout)
    if through is not None:
        return through
    return step[1:](F.linear(rows, of_rows, first.bias) + of_cloud.repeat_interleave(sizes, 0, output_size=len(rows)))


def _through(step: nn.Module, rows: Tensor) -> Tensor:
    """What a step makes of its rows."""
    assert isinstance(step, nn.Sequential)
    through = rows_through(step, rows)
    return step(rows) if through is None else through


def _layers(path: str, source: str, count: int) -> list[Op]:
    ops: list[Op] = []
    for i in range(count):
        ops.append(Op("dense", f"{path}.{3 * i}", (source,), f"{path}.{3 * i + 1}", 0.0))
        source = ops[-1].path
    return ops
