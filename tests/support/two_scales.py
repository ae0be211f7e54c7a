"""An encoder that geo3d does not know: edge convolutions over neighbours at two scales, and a layer on top."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import leaky_relu
from torch_geometric.data import Data

from geo3d.cloud import Features, layout_of
from geo3d.encoders.inputs import cloud_inputs, input_batch, point_inputs
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.graph import Op
from geo3d.nn.keywords import keywords_of
from geo3d.nn.linear import linear
from geo3d.nn.norm import BatchNorm
from geo3d.ops.dense.pooling import max_and_mean
from geo3d.ops.search.knn import knn


class TwoScales(nn.Module):
    """(M, near + far) features of points and (B, embedding) of clouds."""

    def __init__(self, ks=(4, 9), near: int = 16, far: int = 16, embedding: int = 32, in_channels: int = 3) -> None:
        super().__init__()
        self.ks, self.near, self.far, self.embedding, self.in_channels = tuple(ks), near, far, embedding, in_channels
        self.close, self.wide = EdgeConv(in_channels, near), EdgeConv(in_channels, far)
        self.top, self.top_norm = linear(near + far, embedding), BatchNorm(embedding)
        self.point_channels, self.cloud_channels = near + far, embedding

    def forward(self, data: Data) -> Features:
        batch = input_batch(data)
        x, layout = point_inputs(batch, self.in_channels), layout_of(batch)
        parts = [layer(x, knn(batch.pos, layout, k)) for layer, k in zip((self.close, self.wide), self.ks, strict=True)]
        point = torch.cat(parts, 1)
        rows = leaky_relu(self.top_norm(self.top(point)), 0.1)
        return Features(point, max_and_mean(rows, layout)[:, : self.embedding])

    def layer_graph(self) -> tuple[Op, ...]:
        ops, x = cloud_inputs(self.in_channels)
        for name, k in zip(("close", "wide"), self.ks, strict=True):
            ops.append(Op("neighbors", f"{name}.neighbors", ("pos",), k=k))
            ops.append(Op("edge", f"{name}.linear", (x, f"{name}.neighbors"), f"{name}.norm", 0.2))
        return (
            *ops,
            Op("concat", "point", ("close.linear", "wide.linear")),
            Op("dense", "top", ("point",), "top_norm", 0.1),
            Op("max", "cloud", ("top",)),
        )

    def with_channels(self, sizes: Mapping[str, int]) -> "TwoScales":
        changes = {"near": sizes["close.linear"], "far": sizes["wide.linear"], "embedding": sizes["top"]}
        return type(self)(**keywords_of(self) | changes)
