"""DGCNN in the form of its segmentation networks: edge convolutions of several layers, pooled by their maximum."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch_geometric.data import Data

from geo3d.checks import Length, Range, Share, Size, checked
from geo3d.cloud import Features, Layout, Level, layout_of
from geo3d.encoders.inputs import Inputs, cloud_inputs, input_batch, input_channels, point_inputs
from geo3d.encoders.pointnet import transformed
from geo3d.errors import ConfigError
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.edge_mlp import EdgeMLP
from geo3d.nn.graph import Op
from geo3d.nn.keywords import keywords_of
from geo3d.nn.linear import linear
from geo3d.nn.norm import BatchNorm
from geo3d.nn.pooling import embed_and_pool
from geo3d.ops.search.knn import knn

Sizes = Annotated[Sequence[Size], Length(1, 4)]
"""Output channels of the layers of one edge convolution."""


class Alignment(nn.Module):
    """(M, 3) positions times a matrix per cloud, which a small network makes from the cloud's edges.

    The spatial transformer of DGCNN's part segmentation. It starts as the identity.

    Args:
        negative_slope: Slope of every LeakyReLU below zero.
    """

    def __init__(self, negative_slope: float = 0.2) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.edges = EdgeMLP(3, (64, 128), negative_slope)
        self.embed, self.norm = linear(128, 1024), BatchNorm(1024)
        self.layers = nn.ModuleList([linear(1024, 512), linear(512, 256)])
        self.norms = nn.ModuleList([BatchNorm(512), BatchNorm(256)])
        self.last = linear(256, 9, bias=True)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, pos: Tensor, layout: Layout, k: int) -> Tensor:
        """(M, 3) transformed positions; ``k`` neighbours make the edges."""
        edges = self.edges(pos, knn(pos, layout, k))
        x = embed_and_pool(self.embed, self.norm, self.negative_slope, edges, layout)[:, : self.embed.out_features]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = leaky_relu(norm(layer(x)), self.negative_slope)
        matrix = self.last(x).view(-1, 3, 3) + torch.eye(3, dtype=x.dtype, device=x.device)
        return transformed(pos, matrix, layout)

    def ops(self, path: str, pos: str, k: int) -> list[Op]:
        """The operations that compute ``path`` from the positions ``pos``, see :mod:`geo3d.nn.graph`."""
        mlp, slope, near = f"{path}.edges.mlp", self.negative_slope, f"{path}.neighbors"
        return [
            Op("neighbors", near, (pos,), k=k),
            *_edge_ops(mlp, pos, near, 2, slope, k),
            Op("max", f"{path}.edges", (f"{mlp}.linears.1",)),
            Op("dense", f"{path}.embed", (f"{path}.edges",), f"{path}.norm", slope),
            Op("max", f"{path}.pooled", (f"{path}.embed",)),
            Op("dense", f"{path}.layers.0", (f"{path}.pooled",), f"{path}.norms.0", slope),
            Op("dense", f"{path}.layers.1", (f"{path}.layers.0",), f"{path}.norms.1", slope),
            Op("dense", f"{path}.last", (f"{path}.layers.1",)),
            Op("matmul", path, (pos, f"{path}.last")),
        ]


def _edge_ops(path: str, x: str, neighbors: str, layers: int, slope: float, k: int) -> list[Op]:
    """The layers of an edge MLP on each of the ``k`` edges of the rows ``x``."""
    ops = [Op("pairs", f"{path}.linears.0", (x, neighbors), f"{path}.norms.0", slope, k)]
    for j in range(1, layers):
        ops.append(Op("dense", f"{path}.linears.{j}", (ops[-1].path,), f"{path}.norms.{j}", slope))
    return ops


class SegmentationDGCNN(nn.Module):
    """Point and cloud features of DGCNN's segmentation networks (arXiv 1801.07829), without their classifiers.

    Each edge convolution has one or more layers and finds its ``k`` neighbours in the space of its input; the first one
    may search in some columns of the input only. The concatenated outputs of all edge convolutions are the point
    features. One more layer and the maximum over the cloud give the cloud features.

    The published scene network reads a block-centred position, a colour and the position in the room, in which it
    finds the first neighbours: ``in_channels=9, first_graph=(6, 9)``. The published part network is ``k=40,
    align=True``.

    Args:
        k: Neighbours of each point, including the point itself.
        channels: For each edge convolution the output channels of its layers.
        embedding: Output channels of the layer before the maximum over the cloud.
        in_channels: 3 for the coordinates, or more: see :func:`geo3d.encoders.inputs.point_inputs`.
        inputs: Fields read beside the coordinates, such as ``("rgb",)``; ``in_channels`` then follows from them.
        first_graph: First and last column (exclusive) of the input in which the first convolution finds neighbours;
            None for all columns.
        align: Whether a small network first transforms the positions, see :class:`Alignment`.
        negative_slope: Slope of every LeakyReLU below zero.

    Raises:
        ConfigError: If an argument is out of its range, or the columns are not in the input.

    Example:
        >>> encoder = SegmentationDGCNN(k=2, channels=((8, 8), (16,)), embedding=32)
        >>> features = encoder.eval()(Data(pos=torch.eye(3)))
        >>> features.point.shape, features.cloud.shape
        (torch.Size([3, 24]), torch.Size([1, 32]))
    """

    @checked
    def __init__(
        self,
        k: Annotated[int, Range(1, 1024)] = 20,
        channels: Annotated[Sequence[Sizes], Length(1, 8)] = ((64, 64), (64, 64), (64,)),
        embedding: Annotated[int, Range(1, 16384)] = 1024,
        in_channels: Annotated[int, Range(3, 1024)] = 3,
        first_graph: Annotated[Sequence[Annotated[int, Range(0, 1024)]], Length(2, 2)] | None = None,
        align: bool = False,
        negative_slope: Share = 0.2,
        inputs: Inputs = (),
    ) -> None:
        super().__init__()
        in_channels, self.inputs = input_channels(in_channels, inputs), tuple(inputs)
        self.k, self.channels, self.embedding = k, tuple(tuple(sizes) for sizes in channels), embedding
        self.in_channels, self.align, self.negative_slope = in_channels, align, negative_slope
        self.first_graph = None if first_graph is None else tuple(first_graph)
        if first_graph is not None and not 0 <= first_graph[0] < first_graph[1] <= in_channels:
            raise ConfigError(f"first_graph: expected columns of the {in_channels} inputs; found {tuple(first_graph)}")
        if align and in_channels != 3:
            raise ConfigError(f"align transforms positions alone; give in_channels=3, not {in_channels}")
        self.point_channels, self.cloud_channels = sum(sizes[-1] for sizes in channels), embedding
        self.level_channels = (in_channels,)
        self.alignment = Alignment(negative_slope) if align else None
        widths = [in_channels, *(sizes[-1] for sizes in channels[:-1])]
        self.layers = nn.ModuleList(
            EdgeConv(inner, sizes[0], negative_slope) if len(sizes) == 1 else EdgeMLP(inner, sizes, negative_slope)
            for inner, sizes in zip(widths, channels, strict=True)
        )
        self.embed, self.norm = linear(self.point_channels, embedding), BatchNorm(embedding)

    def forward(self, data: Data) -> Features:
        """Features (M, point_channels) of the points and (B, embedding) of the clouds of any PyG ``Data``."""
        batch = input_batch(data)
        layout, inputs = layout_of(batch), point_inputs(batch, self.in_channels, self.inputs)
        x = inputs if self.alignment is None else self.alignment(inputs, layout, self.k)
        outputs = []
        for i, layer in enumerate(self.layers):
            search = x[:, slice(*self.first_graph)] if i == 0 and self.first_graph is not None else x
            x = layer(x, knn(search.contiguous(), layout, self.k))
            outputs.append(x)
        point = torch.cat(outputs, 1)
        cloud = embed_and_pool(self.embed, self.norm, self.negative_slope, point, layout)[:, : self.embedding]
        return Features(point, cloud, (Level(batch.pos, layout, inputs),))

    def layer_graph(self) -> tuple[Op, ...]:
        """The operations, see :mod:`geo3d.nn.graph`."""
        ops, x = cloud_inputs(self.in_channels)
        if self.alignment is not None:
            ops += self.alignment.ops("alignment", x, self.k)
            x = "alignment"
        names = []
        for i, sizes in enumerate(self.channels):
            search, path = x, f"layers.{i}"
            if i == 0 and self.first_graph is not None:
                first, last = self.first_graph
                ops.append(Op("columns", "searched", (x,), first=first, number=last - first))
                search = "searched"
            ops.append(Op("neighbors", f"neighbors.{i}", (search,), k=self.k))
            neighbors = ops[-1].path
            if len(sizes) == 1:
                ops.append(Op("edge", f"{path}.linear", (x, neighbors), f"{path}.norm", self.negative_slope))
            else:
                ops += _edge_ops(f"{path}.mlp", x, neighbors, len(sizes), self.negative_slope, self.k)
                ops.append(Op("max", path, (ops[-1].path,)))
            x = ops[-1].path
            names.append(x)
        return (
            *ops,
            Op("concat", "point", tuple(names)),
            Op("dense", "embed", ("point",), "norm", self.negative_slope),
            Op("max", "cloud", ("embed",)),
        )

    def with_channels(self, sizes: Mapping[str, int]) -> "SegmentationDGCNN":
        """A new encoder with the same keywords, except for the output channels: ``sizes``, by path of the layer.

        Raises:
            ConfigError: If the positions are transformed: the layers of the transformer have fixed sizes.
        """
        if self.align:
            raise ConfigError("channels of a DGCNN with align=true cannot be taken out; use align=false")
        channels = [
            (sizes[f"layers.{i}.linear"],)
            if len(own) == 1
            else tuple(sizes[f"layers.{i}.mlp.linears.{j}"] for j in range(len(own)))
            for i, own in enumerate(self.channels)
        ]
        return type(self)(**keywords_of(self) | {"channels": channels, "embedding": sizes["embed"]})
