"""DGCNN: edge convolutions on graphs of nearest neighbours that each layer rebuilds from its input features."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geo3d.checks import Length, Range, Share, Size, checked
from geo3d.cloud import Features, Layout, Level, layout_of
from geo3d.encoders.inputs import Inputs, cloud_inputs, input_batch, input_channels, point_inputs
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.graph import Op
from geo3d.nn.keywords import keywords_of
from geo3d.nn.linear import linear
from geo3d.nn.norm import BatchNorm
from geo3d.nn.pooling import embed_and_pool
from geo3d.ops.search.knn import knn

CACHED = 8192
"""Points per chunk in evaluation on a CPU, so that a chunk stays in the cache: 13 % faster at 32 clouds of 1024."""


class DGCNN(nn.Module):
    """Point and cloud features of the dynamic graph network of Wang et al. (arXiv 1801.07829), classification form.

    Each edge convolution finds the ``k`` nearest neighbours in the space of its own input. The concatenated outputs of
    all edge convolutions are the point features. One more layer, max-pooled and mean-pooled, gives the cloud features.
    The cloud features do not depend on the order of the points, except for ties between distances.

    Args:
        k: Neighbours of each point, including the point itself.
        channels: Output channels of the edge convolutions.
        embedding: Output channels of the layer before the pooling.
        in_channels: 3 for the coordinates, or more: see :func:`geo3d.encoders.inputs.point_inputs`.
        inputs: Fields read beside the coordinates, such as ``("rgb",)``; ``in_channels`` then follows from them.
        negative_slope: Slope of every LeakyReLU below zero.
        dynamic: Whether each layer builds a graph from its input. If not, all layers share one graph of the
            coordinates.

    Raises:
        ConfigError: If an argument is out of its range.

    Example:
        >>> features = DGCNN(k=2, channels=(8, 16), embedding=32).eval()(Data(pos=torch.eye(3)))
        >>> features.point.shape, features.cloud.shape
        (torch.Size([3, 24]), torch.Size([1, 64]))
    """

    @checked
    def __init__(
        self,
        k: Annotated[int, Range(1, 1024)] = 20,
        channels: Annotated[Sequence[Size], Length(1, 16)] = (64, 64, 128, 256),
        embedding: Annotated[int, Range(1, 16384)] = 1024,
        in_channels: Annotated[int, Range(3, 1024)] = 3,
        negative_slope: Share = 0.2,
        dynamic: bool = True,
        inputs: Inputs = (),
    ) -> None:
        super().__init__()
        in_channels, self.inputs = input_channels(in_channels, inputs), tuple(inputs)
        self.k, self.channels, self.embedding = k, tuple(channels), embedding
        self.in_channels, self.negative_slope, self.dynamic = in_channels, negative_slope, dynamic
        self.point_channels, self.cloud_channels = sum(channels), 2 * embedding
        self.level_channels = (in_channels,)
        self.layers = nn.ModuleList(
            EdgeConv(inner, outer, negative_slope) for inner, outer in pairwise((in_channels, *channels))
        )
        self.embed = linear(self.point_channels, embedding)
        self.norm = BatchNorm(embedding)

    def forward(self, data: Data) -> Features:
        """Features (M, sum(channels)) of the points and (B, 2 * embedding) of the clouds of any PyG ``Data``."""
        batch = input_batch(data)
        layout = layout_of(batch)
        x, pos, (ptr, size) = point_inputs(batch, self.in_channels, self.inputs), batch.pos, layout
        at_once = self.training or torch.is_grad_enabled() or torch.compiler.is_compiling() or x.device.type != "cpu"
        if size is None or at_once or len(x) <= max(CACHED, size):
            return Features(*self._encode(x, pos, layout), (Level(pos, layout, x),))
        rows = max(1, CACHED // size) * size
        chunks = zip(x.split(rows), pos.split(rows), strict=True)
        parts = [self._encode(few, where, Layout(ptr[: len(few) // size + 1], size)) for few, where in chunks]
        point, cloud = (torch.cat(each) for each in zip(*parts, strict=True))
        return Features(point, cloud, (Level(pos, layout, x),))

    def _encode(self, x: Tensor, pos: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        neighbors = None if self.dynamic else knn(pos, layout, self.k)
        outputs = []
        for layer in self.layers:
            x = layer(x, knn(x, layout, self.k) if neighbors is None else neighbors)
            outputs.append(x)
        point = torch.cat(outputs, 1)
        return point, embed_and_pool(self.embed, self.norm, self.negative_slope, point, layout)

    def layer_graph(self) -> tuple[Op, ...]:
        """The operations, see :mod:`geo3d.nn.graph`."""
        ops, x = cloud_inputs(self.in_channels)
        names = []
        for i in range(len(self.channels)):
            if self.dynamic or i == 0:
                ops.append(Op("neighbors", f"neighbors.{i}", (x if self.dynamic else "pos",), k=self.k))
            neighbors, path = ops[-1].path if self.dynamic else "neighbors.0", f"layers.{i}"
            ops.append(Op("edge", f"{path}.linear", (x, neighbors), f"{path}.norm", self.negative_slope))
            x = ops[-1].path
            names.append(x)
        return (
            *ops,
            Op("concat", "point", tuple(names)),
            Op("dense", "embed", ("point",), "norm", self.negative_slope),
            Op("max", "embed.max", ("embed",)),
            Op("mean", "embed.mean", ("embed",)),
            Op("concat", "cloud", ("embed.max", "embed.mean")),
        )

    def with_channels(self, sizes: Mapping[str, int]) -> "DGCNN":
        """A new encoder with the same keywords, except for the output channels: ``sizes``, by path of the layer."""
        channels = tuple(sizes[f"layers.{i}.linear"] for i in range(len(self.channels)))
        return type(self)(**keywords_of(self) | {"channels": channels, "embedding": sizes["embed"]})


def published_state(state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Keywords and state of a :class:`DGCNN` from a public classification network, None if ``state`` is not of one.

    The names are those of the authors' PyTorch code and of its re-implementation by An Tao: edge convolutions
    ``conv1.0`` ... with ``bn1`` ..., then one convolution over points. The classifier behind it is left out. The
    weights do not tell the number of neighbours.

    Args:
        state: Names and tensors as stored.
    """
    count = 0
    while f"conv{count + 1}.0.weight" in state:
        count += 1
    shapes = [tuple(state[f"conv{i}.0.weight"].shape) for i in range(1, count + 1)]
    if count < 2 or any(len(shape) != 4 for shape in shapes[:-1]) or len(shapes[-1]) != 3:
        return None
    channels = [shape[0] for shape in shapes[:-1]]
    in_channels = shapes[0][1] // 2
    inner = [shape[1] for shape in shapes]
    if inner != [*(2 * c for c in (in_channels, *channels[:-1])), sum(channels)]:
        return None
    ours: dict[str, Tensor] = {}
    for i, shape in enumerate(shapes, 1):
        last = i == count
        ours["embed.weight" if last else f"layers.{i - 1}.linear.weight"] = state[f"conv{i}.0.weight"].view(shape[:2])
        for prefix in (f"conv{i}.1.", f"bn{i}."):  # the same tensors under two names
            for name in (name for name in state if name.startswith(prefix)):
                ours[("norm." if last else f"layers.{i - 1}.norm.") + name.removeprefix(prefix)] = state[name]
    return {"channels": tuple(channels), "embedding": shapes[-1][0], "in_channels": in_channels}, ours
