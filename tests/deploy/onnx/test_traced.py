"""Encoders without a layer_graph: whether their traced files match them, and what cannot be traced."""

from pathlib import Path

import pytest
import torch
from torch import nn

from geo3d.cloud import Features, as_batch, layout_of
from geo3d.deploy.onnx.check import checked
from geo3d.deploy.onnx.export import export_onnx, onnx_model
from geo3d.encoders.inputs import point_inputs
from geo3d.errors import ConfigError
from geo3d.ops.search.knn import knn

SIZE = {"clouds": 2, "num_points": 40}


class Nearest(nn.Module):
    """The largest features of the nearest points, in plain PyTorch; it has no layer_graph."""

    point_channels = cloud_channels = 8

    def __init__(self, in_channels: int = 3, own: bool = False) -> None:
        super().__init__()
        self.in_channels, self.own = in_channels, own
        self.layer, self.norm = nn.Linear(in_channels, 8), nn.BatchNorm1d(8)

    def forward(self, data):
        batch = as_batch(data)
        layout = layout_of(batch)
        x = self.norm(self.layer(point_inputs(batch, self.in_channels))).relu()
        if self.own:
            return Features(x[knn(batch.pos, layout, 4)].amax(1), x[:2])
        pos, rows = batch.pos.view(-1, layout.size, 3), x.view(-1, layout.size, 8)
        near = torch.cdist(pos, pos).topk(4, largest=False).indices
        near = torch.stack([of[table] for of, table in zip(rows, near, strict=True)]).amax(2)
        return Features(near.flatten(0, 1), near.amax(1))


@pytest.mark.parametrize("in_channels", [3, 5])
@pytest.mark.parametrize("opset", [18, 21, 23])
def test_a_traced_file_says_what_the_encoder_says(in_channels: int, opset: int, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    encoder = Nearest(in_channels).train()
    path = export_onnx(encoder, tmp_path / "encoder.onnx", opset=opset, **SIZE)
    assert encoder.training
    assert checked(encoder.eval(), path, "onnx", "inside", **SIZE).largest < 1e-5
    model = onnx_model(encoder, opset=opset, **SIZE)
    assert model.opset_import[0].version == opset
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["class"] == "Nearest" and said["neighbors"] == "inside"


@pytest.mark.parametrize(
    "encoder, options, message",
    [
        (Nearest(), {}, "Nearest: has no layer_graph and is exported by tracing.*give clouds=N and num_points=N"),
        (Nearest(own=True), SIZE, "Nearest: has no layer_graph, and cannot be traced .*geo3d.*write a layer_graph"),
        (Nearest(), SIZE | {"neighbors": "inputs"}, "neighbors=inputs: Nearest has no layer_graph"),
        (nn.Linear(3, 3), SIZE, "Linear: has no layer_graph, and cannot be traced"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_one_line(encoder, options, message, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(ConfigError, match=message) as caught:
        export_onnx(encoder, tmp_path / "encoder.onnx", **options)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
