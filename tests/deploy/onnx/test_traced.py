"""Encoders without a layer_graph: whether their traced files match them, and what cannot be traced."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch_geometric.nn import global_max_pool, global_mean_pool

from geo3d.cloud import Features, as_batch, layout_of
from geo3d.deploy.onnx.check import checked
from geo3d.deploy.onnx.export import export_onnx, export_torch, onnx_model
from geo3d.encoders.inputs import point_inputs
from geo3d.errors import ConfigError
from geo3d.ops.search.knn import knn
from geo3d.testing import tiny_batch

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


class Pooled(nn.Module):
    """PyG's own pools over ``batch.batch``, whose number of clouds a trace does not know."""

    in_channels, point_channels, cloud_channels = 3, 8, 16

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 8)

    def forward(self, batch):
        x = self.layer(batch.pos).relu()
        return Features(x, torch.cat([global_max_pool(x, batch.batch), global_mean_pool(x, batch.batch)], 1))


def test_a_file_that_no_runtime_loads_is_refused(tmp_path: Path, capfd) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(ConfigError, match="Pooled: has no layer_graph, and cannot be traced") as caught:
        export_onnx(Pooled(), tmp_path / "encoder.onnx", **SIZE)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="Nearest: has no layer_graph, and cannot be traced"):
        export_onnx(Nearest(own=True), tmp_path / "encoder.onnx", **SIZE)
    assert capfd.readouterr().out == ""


def test_what_torch_cannot_export_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Pooled: torch.export cannot follow its forward") as caught:
        export_torch(Pooled(), tmp_path / "encoder.pt2", tiny_batch(num_points=16))
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
