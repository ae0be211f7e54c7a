"""A network's description of itself is refused in one line if it does not fit the network."""

import pytest
import torch
from torch import nn

from geo3d.cloud import Features, layout_of
from geo3d.compress import prune, quantize
from geo3d.compress.shrink import shrink
from geo3d.deploy.onnx.export import export_onnx
from geo3d.deploy.program.program import Program
from geo3d.encoders import DGCNN
from geo3d.errors import ConfigError
from geo3d.nn.describe import graph_of
from geo3d.nn.graph import Op
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm
from geo3d.ops.dense.pooling import max_and_mean
from geo3d.testing import tiny_batch

POS = Op("input", "pos", number=3)
DENSE = Op("dense", "first", ("pos",), "norm", 0.0)
ENDS = (Op("concat", "point", ("first",)), Op("max", "cloud", ("point",)))


class Small(nn.Module):
    """One layer, a norm, and whatever it is told to say of itself."""

    def __init__(self, *ops: Op) -> None:
        super().__init__()
        self.ops, self.first, self.norm, self.plain = ops, Linear(3, 4), BatchNorm(4), nn.Identity()

    def forward(self, batch) -> Features:
        point = (self.norm or nn.Identity())(self.first(batch.pos)).relu()
        return Features(point, max_and_mean(point, layout_of(batch))[:, :4])

    def layer_graph(self) -> tuple[Op, ...]:
        return self.ops


def test_a_graph_that_fits_is_given():
    assert graph_of(Small(POS, DENSE, *ENDS), "test") == (POS, DENSE, *ENDS)


@pytest.mark.parametrize(
    "ops, message",
    [
        ((POS, DENSE._replace(kind="foo"), *ENDS), "first: there is no kind 'foo'; there are input, dense"),
        ((POS, DENSE, DENSE, *ENDS), "first: two operations have this name"),
        ((POS, DENSE._replace(sources=("poss",)), *ENDS), "first: reads 'poss', but no operation before it"),
        ((DENSE, POS, *ENDS), "first: reads 'pos', but no operation before it"),
        ((POS, DENSE._replace(sources=("pos", "pos")), *ENDS), "first: dense cannot have 2 sources"),
        ((POS, DENSE._replace(path="fist"), *ENDS), "fist: the module has nothing of that name; expected a Linear"),
        (
            (POS, DENSE._replace(path="plain"), *ENDS),
            "plain: expected a geo3d.nn.linear.Linear; found a torch",
        ),
        ((POS, DENSE._replace(norm="plain"), *ENDS), "plain: expected a geo3d.nn.norm.BatchNorm; found"),
        ((POS, DENSE._replace(norm=""), *ENDS), "no operation names norm.weight, which the module has"),
        ((POS, DENSE), "expected the values point and cloud"),
        ((POS, DENSE._replace(slope=-0.1), *ENDS), "first: the slope of a LeakyReLU must be from 0 to 1; found -0.1"),
        ((POS, Op("neighbors", "near", ("pos",)), DENSE, *ENDS), "near: neighbors needs k >= 1"),
        ((POS, Op("farthest", "few", ("pos",)), DENSE, *ENDS), "few: farthest needs number >= 1"),
        ((("input", "pos"), DENSE, *ENDS), "expected a tuple of Op, see geo3d.nn.graph; found "),
    ],
)
def test_a_graph_that_does_not_fit_is_refused(ops, message):
    with pytest.raises(ConfigError, match=rf"^test: Small\.layer_graph: {message}") as caught:
        graph_of(Small(*ops), "test")
    assert "\n" not in str(caught.value)


def test_an_edge_convolution_has_its_own_norm_and_slope():
    encoder = DGCNN(k=4, channels=(8, 8), embedding=16)
    encoder.layers[1].negative_slope = 0.5
    with pytest.raises(ConfigError, match=r"layers\.1\.linear: expected the edge convolution's own .* 0\.5; .* 0\.2"):
        graph_of(encoder, "test")
    batch = tiny_batch(num_points=16)
    with torch.no_grad():
        assert not Program(encoder.eval()).native
        assert torch.equal(Program(encoder)(batch).cloud, encoder(batch).cloud)


class Tripled(DGCNN):
    """Another forward, and the graph of its base class."""

    def forward(self, data) -> Features:
        features = super().forward(data)
        return features._replace(cloud=3 * features.cloud)


class Gain(DGCNN):
    """A layer that the inherited graph does not know."""

    def __init__(self, k=4, channels=(8, 8), embedding=16) -> None:
        super().__init__(k=k, channels=channels, embedding=embedding)
        self.gain = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize(
    "made, message",
    [
        (lambda: Tripled(k=4, channels=(8, 8), embedding=16), "Tripled has its own forward, but DGCNN's layer_graph"),
        (Gain, "Gain.layer_graph: no operation names gain, which the module has"),
    ],
    ids=["forward", "parameter"],
)
def test_nothing_relies_on_the_graph_of_a_base_class_that_says_less(made, message, tmp_path):
    encoder, batch = made().eval(), tiny_batch(num_points=16)
    for use in (quantize, prune, lambda each: shrink(each, {}), lambda each: export_onnx(each, tmp_path / "a.onnx")):
        with pytest.raises(ConfigError, match=message):
            use(encoder)
    program = Program(encoder)
    with torch.no_grad():
        assert not program.native and torch.equal(program(batch).cloud, encoder(batch).cloud)


def test_channels_are_not_taken_out_of_layers_without_a_norm():
    class Bare(Small):
        def with_channels(self, sizes):
            return self

        def __init__(self) -> None:
            super().__init__(POS, DENSE._replace(norm=""), *ENDS)
            self.norm = None

    with pytest.raises(ConfigError, match="shrink: first has no norm behind it"):
        shrink(Bare(), {})
