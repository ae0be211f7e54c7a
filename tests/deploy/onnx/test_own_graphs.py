"""Graphs that none of geo3d's encoders has: what the file says of them, or why there is none."""

from typing import get_args

import pytest
import torch
from torch import nn

from geo3d.cloud import Features, layout_of
from geo3d.deploy.onnx.check import checked
from geo3d.deploy.onnx.encoders import DRAW
from geo3d.deploy.onnx.export import export_onnx
from geo3d.encoders.inputs import input_batch
from geo3d.errors import ConfigError
from geo3d.nn.evaluate import Value, evaluate
from geo3d.nn.graph import Kind, Op
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm

POS = Op("input", "pos", number=3)
SIZE = {"clouds": 2, "num_points": 30}


class Described(nn.Module):
    """What its graph says, computed plainly."""

    in_channels, point_channels, cloud_channels = 3, 4, 4
    norms = True

    def __init__(self) -> None:
        super().__init__()
        self.point = Linear(3, 4)
        if self.norms:
            self.norm = BatchNorm(4)
            self.norm.running_mean.normal_()

    def forward(self, data):
        batch = input_batch(data)
        values = evaluate(self, self.layer_graph(), {"pos": Value(batch.pos, layout_of(batch))})
        return Features(values["point"].x, values["cloud"].x)


class TopOfPoints(Described):
    """Its only layer is an output, and only a maximum reads it."""

    def layer_graph(self):
        return (POS, Op("dense", "point", ("pos",), "norm", 0.0), Op("max", "cloud", ("point",)))

    forward = Described.forward


class MeanOfBalls(Described):
    """Means over balls, back at the points through the nearest centers, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.point = self.point, nn.Identity()

    def layer_graph(self):
        return (
            POS,
            Op("farthest", "centers", ("pos",), number=8),
            Op("group", "first", ("pos", "centers"), "norm" if self.norms else "", 0.2, k=6, radius=0.7),
            Op("mean", "balls", ("first",)),
            Op("interpolate", "near", ("balls", "centers", "pos"), k=3),
            Op("interpolate", "again", ("balls", "centers", "pos"), k=3),
            Op("concat", "point", ("near", "again")),
            Op("max", "cloud", ("balls",)),
        )

    point_channels = 8
    forward = Described.forward


class BareBalls(MeanOfBalls):
    """The same without a norm."""

    norms = False
    layer_graph, forward = MeanOfBalls.layer_graph, Described.forward


@pytest.mark.parametrize("made, neighbors", [(TopOfPoints, "inside"), (MeanOfBalls, "inputs")])
def test_the_file_says_what_the_graph_says(made, neighbors, tmp_path):
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    encoder = made().eval()
    path = export_onnx(encoder, tmp_path / "encoder.onnx", neighbors=neighbors)
    assert checked(encoder, path, "onnx", neighbors, **SIZE).largest < 1e-5


@pytest.mark.parametrize(
    "made, message",
    [
        (BareBalls, "first: a group without a norm behind it has no ONNX form"),
    ],
)
def test_what_has_no_form_is_refused(made, message, tmp_path):
    pytest.importorskip("onnx")
    with pytest.raises(ConfigError, match=message):
        export_onnx(made(), tmp_path / "encoder.onnx", neighbors="inputs")


def test_every_kind_of_operation_has_a_form():
    assert set(DRAW) == set(get_args(Kind))
