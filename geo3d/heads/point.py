"""Small networks behind a decoder's rows: a class for each point."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geo3d.checks import Length, Range, Share, Size, checked
from geo3d.cloud import Layout
from geo3d.heads.cloud import Width, each
from geo3d.nn.category import one_hot_categories
from geo3d.nn.folded import rows_through
from geo3d.nn.graph import Op
from geo3d.nn.linear import Linear, linear
from geo3d.nn.mlp import logit_ops
from geo3d.nn.norm import BatchNorm


class PointClassifier(nn.Module):
    """(M, num_classes) logits of points from the rows (M, in_channels) of a decoder.

    For each hidden size: linear, BatchNorm, LeakyReLU, dropout; then a linear layer. The defaults are those of DGCNN's
    scene network (arXiv 1801.07829). The other published heads are

    - DGCNN, parts: ``hidden=(256, 256, 128), dropout=(0.5, 0.5, 0), categories=16``;
    - PointNet++ (arXiv 1706.02413): ``hidden=(128,), bias=True, dropout=0.5, negative_slope=0, output_bias=True``.

    Args:
        in_channels: Channels of the decoder's rows.
        num_classes: Number of logits.
        hidden: Sizes of the hidden layers.
        bias: Whether the hidden linear layers have a bias.
        output_bias: Whether the last linear layer has a bias.
        dropout: Probability of setting a channel to zero: one value for all hidden layers, or one per layer.
        negative_slope: Slope of the LeakyReLU below zero; 0 makes it a ReLU.
        categories: Number of categories of clouds. If above 0, the head also reads the category of each cloud.
        category_channels: Channels of a category, which are appended to the rows.

    Example:
        >>> head = PointClassifier(1216, 13)
        >>> head(torch.zeros(5, 1216)).shape, sum(p.numel() for p in head.parameters())
        (torch.Size([5, 13]), 758528)
    """

    @checked
    def __init__(
        self,
        in_channels: Width,
        num_classes: Annotated[int, Range(1, 100_000)],
        hidden: Annotated[Sequence[Size], Length(0, 16)] = (512, 256),
        bias: bool = False,
        output_bias: bool = False,
        dropout: Share | Sequence[Share] = (0.0, 0.5),
        negative_slope: Share = 0.2,
        categories: Annotated[int, Range(0, 100_000)] = 0,
        category_channels: Size = 64,
    ) -> None:
        super().__init__()
        self.in_channels, self.num_classes, self.hidden = in_channels, num_classes, tuple(hidden)
        self.bias, self.output_bias, self.negative_slope = bias, output_bias, negative_slope
        self.categories, self.category_channels = categories, category_channels
        self.dropout = each("dropout", dropout, len(hidden))
        if categories:
            self.category, self.category_norm = linear(categories, category_channels), BatchNorm(category_channels)
        layers: list[nn.Module] = []
        channels = in_channels + (category_channels if categories else 0)
        for size, p in zip(self.hidden, self.dropout, strict=True):
            layers += [linear(channels, size, bias=bias), BatchNorm(size), nn.LeakyReLU(negative_slope)]
            layers += [nn.Dropout(p)] if p else []
            channels = size
        layers.append(linear(channels, num_classes, bias=output_bias))
        self.layers = nn.Sequential(*layers)

    def forward(
        self,
        rows: Tensor,
        category: Tensor | None = None,
        layout: Layout | None = None,
        cloud: Tensor | None = None,
    ) -> Tensor:
        """(M, num_classes) logits, before any softmax.

        Args:
            rows: (M, in_channels) rows of the points, or with ``cloud`` only their last columns.
            category: (B,) int64 category of each cloud, if the head has ``categories``.
            layout: Which rows belong to which cloud, with ``category`` or ``cloud``.
            cloud: (B, D) the first columns of the rows, the same for all points of a cloud.

        Raises:
            CloudError: If the head has categories and none are given, or they do not fit.
        """
        known = self._known(category, layout) if self.categories else None
        if cloud is None and known is None:
            through = rows_through(self.layers, rows)
            return self.layers(rows) if through is None else through
        assert layout is not None
        sizes, first = layout.ptr.diff(), self.layers[0]
        assert isinstance(first, Linear)
        if first.pool is not None or first.input_quantizer is not None:
            given = [x for x in (cloud, rows, known) if x is not None]
            every = [x if x is rows else x.repeat_interleave(sizes, 0, output_size=len(rows)) for x in given]
            return self.layers(torch.cat(every, 1))
        # What is the same for all points of a cloud is multiplied once per cloud.
        widths = [0 if cloud is None else cloud.shape[1], rows.shape[1], 0 if known is None else known.shape[1]]
        of_cloud, of_rows, of_known = first.matrix().split(widths, 1)
        once = [F.linear(x, w) for x, w in ((cloud, of_cloud), (known, of_known)) if x is not None]
        of_cloud = torch.stack(once).sum(0)
        through = rows_through(self.layers, rows, of_rows, of_cloud, layout)
        if through is not None:
            return through
        of_each = of_cloud.repeat_interleave(sizes, 0, output_size=len(rows))
        return self.layers[1:](F.linear(rows, of_rows, first.bias) + of_each)

    def layer_graph(self) -> tuple[Op, ...]:
        """The operations, see :mod:`geo3d.nn.graph`."""
        ops = [Op("input", "rows", number=self.in_channels)]
        if self.categories:
            ops.append(Op("input", "y", number=self.categories))
            ops.append(Op("dense", "category", ("y",), "category_norm", self.negative_slope))
            ops.append(Op("expand", "category.rows", ("category", "rows")))
            ops.append(Op("concat", "joined", ("rows", "category.rows")))
        return (*ops, *logit_ops(self.layers, ops[-1].path))

    def _known(self, category: Tensor | None, layout: Layout | None) -> Tensor:
        """(B, category_channels) what the head makes of the categories."""
        one_hot = one_hot_categories(category, self.categories, layout, "the head")
        known = self.category_norm(self.category(one_hot.to(self.category.weight.dtype)))
        return F.leaky_relu(known, self.negative_slope)
