"""A graph that fits the modules of an encoder and yet computes something else is refused."""

import pytest
import torch
from torch import nn
from torch.nn.functional import leaky_relu

from geo3d import seeds
from geo3d.cloud import Features, layout_of
from geo3d.compress import quantize
from geo3d.encoders import DGCNN
from geo3d.errors import ConfigError
from geo3d.nn.describe import graph_of
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.graph import Op
from geo3d.nn.linear import linear
from geo3d.nn.norm import BatchNorm
from geo3d.ops.dense.pooling import max_and_mean


class Residual(nn.Module):
    """Two layers, the second of which is added to the first, or not; ``graph`` is what it says of itself."""

    in_channels, point_channels, cloud_channels = 5, 8, 8

    def __init__(self, graph: str = "right", added: bool = False, shared: bool = False) -> None:
        super().__init__()
        self.graph, self.added = graph, added
        with seeds.seeded(0):
            self.one, self.two = linear(5, 8), linear(8, 8)
            self.norm_one, self.norm_two = BatchNorm(8), BatchNorm(8)
        if shared:
            self.norm_two = self.norm_one

    def forward(self, batch) -> Features:
        x = leaky_relu(self.norm_one(self.one(torch.cat([batch.pos, batch.x], 1))), 0.2)
        y = leaky_relu(self.norm_two(self.two(x)), 0.2)
        point = x + y if self.added else y
        return Features(point, max_and_mean(point, layout_of(batch))[:, :8])

    def layer_graph(self):
        norms = ("norm_two", "norm_one") if self.graph == "norms swapped" else ("norm_one", "norm_two")
        return (
            Op("input", "pos", number=3),
            Op("input", "x", number=2),
            Op("concat", "both", ("x", "pos") if self.graph == "columns swapped" else ("pos", "x")),
            Op("dense", "one", ("both",), norms[0], 0.2),
            Op(
                "dense",
                "two",
                ("pos" if self.graph == "source" else "one",),
                norms[1],
                0.1 if self.graph == "slope" else 0.2,
            ),
            Op("concat", "point", ("two", "two") if self.graph == "width" else ("two",)),
            Op("mean" if self.graph == "mean" else "max", "cloud", ("two",)),
        )


def test_a_graph_that_computes_the_same_is_given_and_leaves_the_module_alone():
    encoder = Residual().train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    assert graph_of(encoder, "test")[-1].path == "cloud"
    assert encoder.training and all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("graph", ["norms swapped", "columns swapped", "slope", "mean"])
def test_a_graph_with_a_mistake_is_refused(graph):
    with pytest.raises(ConfigError, match="test: Residual.layer_graph: .*operations and forward give different values"):
        graph_of(Residual(graph), "test")


def test_what_a_graph_leaves_out_is_noticed():
    with pytest.raises(ConfigError, match="point: its operations and forward give different values"):
        quantize(Residual(added=True))
    with pytest.raises(ConfigError, match=r"point: it gives \(96, 16\), forward gives \(96, 8\)"):
        graph_of(Residual("width"), "test")


def test_a_module_with_two_names_is_refused():
    with pytest.raises(ConfigError, match="norm_two: shares weights with norm_one; each layer needs its own"):
        graph_of(Residual(shared=True), "test")


def test_operations_that_cannot_be_computed_are_refused_in_one_line():
    with pytest.raises(ConfigError, match="the operations cannot be computed") as caught:
        graph_of(Residual("source"), "test")
    assert "\n" not in str(caught.value)


class Doubled(EdgeConv):
    def forward(self, x, neighbors):
        return 2 * super().forward(x, neighbors)


class Helper(DGCNN):
    def _encode(self, x, pos, layout):
        point, cloud = super()._encode(x, pos, layout)
        return point, 2 * cloud


def test_layers_and_encoders_that_compute_something_else_are_noticed():
    encoder = DGCNN(k=4, channels=(8, 8), embedding=16)
    encoder.layers[1] = Doubled(8, 8)
    with pytest.raises(ConfigError, match=r"layers\.1: expected a geo3d.nn.edge_conv.EdgeConv; found a .*Doubled"):
        graph_of(encoder, "test")
    with pytest.raises(ConfigError, match="cloud: its operations and forward give different values"):
        graph_of(Helper(k=4, channels=(8, 8), embedding=16), "test")
