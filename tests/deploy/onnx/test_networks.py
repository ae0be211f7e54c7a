"""Whole segmentation networks as files: their logits against geo3d's, float and rounded."""

import json

import numpy as np
import pytest
import torch

from geo3d import compress, seeds
from geo3d.cloud import with_
from geo3d.decoders import FeaturePropagation, GlobalConcat, Upcast
from geo3d.decoders.build import decoder_for
from geo3d.deploy.onnx.check import checked, difference, in_onnxruntime, random_clouds
from geo3d.deploy.onnx.export import export_onnx, export_openvino, export_torch, onnx_inputs, onnx_model
from geo3d.encoders import DGCNN, PointNet, PointNet2, SegmentationDGCNN
from geo3d.errors import CloudError, ConfigError
from geo3d.heads import PointClassifier
from geo3d.network import PointNetwork

pytest.importorskip("onnx")
ABSOLUTE = {
    "num_samples": (16, 8),
    "radii": (0.3, 0.6),
    "num_neighbors": (6, 6),
    "channels": ((8, 8), (8, 12)),
    "absolute": True,
}


def scenes(level_channels, cloud_channels):
    return FeaturePropagation(level_channels, cloud_channels, ((8, 8), (8, 6)), cloud=False)


def parts(level_channels, cloud_channels):
    return FeaturePropagation(level_channels, cloud_channels, ((8, 8), (8, 6), (6,)))


def aligned():
    encoder = SegmentationDGCNN(k=5, channels=((8, 8), (8,)), embedding=16, align=True)
    torch.nn.init.normal_(encoder.alignment.last.weight, std=0.05)
    return encoder


MAKE = {
    "dgcnn": (lambda: DGCNN(k=5, channels=(8, 8), embedding=16), GlobalConcat, 2),
    "scene": (lambda: SegmentationDGCNN(k=5, channels=((8, 8), (8,)), embedding=16, in_channels=6), GlobalConcat, 0),
    "aligned": (aligned, GlobalConcat, 3),
    "pointnet": (lambda: PointNet(embedding=16, width=0.2), Upcast, 0),
    "scenes": (lambda: PointNet2(**ABSOLUTE), scenes, 0),
    "colors": (lambda: PointNet2(**ABSOLUTE, in_channels=6), scenes, 0),
    "parts": (lambda: PointNet2("msg", num_samples=(16, 8), width=0.1), parts, 3),
}
SEARCHES = {"dgcnn": "inside", "scene": "inside", "aligned": "inside", "pointnet": "inside"}


def made(name):
    make, decoder, categories = MAKE[name]
    with seeds.seeded(0, name):
        encoder = make()
        rows = decoder_for(encoder, decoder)
        network = PointNetwork(
            encoder, rows, PointClassifier(rows.out_channels, 4, hidden=(8,), dropout=0.5, categories=categories)
        )
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                torch.nn.init.normal_(module.weight)
                torch.nn.init.normal_(module.bias)
    for _ in range(3):
        network.train()(random_clouds(network, 4, 64))
    return network.eval()


def rounded(network):
    def part(module):
        return compress.quantize(module, 8, 8) if list(module.parameters()) else module

    other = PointNetwork(*(part(each) for each in network.children()))
    return compress.calibrate(other.eval(), [random_clouds(network, 4, 64)])


@pytest.mark.parametrize("precision", ["float", "rounded"])
@pytest.mark.parametrize("name", MAKE)
def test_the_file_gives_the_logits(name, precision, tmp_path):
    pytest.importorskip("onnxruntime")
    network, search = made(name), SEARCHES.get(name, "inputs")
    if precision == "rounded":
        network = rounded(network)
        assert all(layer.quantizer is not None for layer in network.modules() if type(layer).__name__ == "Linear")
    path = export_onnx(network, tmp_path / "network.onnx", neighbors=search)
    run = in_onnxruntime(path)
    for clouds, points in ((2, 40), (3, 70)):
        batch = random_clouds(network, clouds, points)
        with torch.no_grad():
            expected = network(batch)
        (logits,) = run(onnx_inputs(network, batch, search))
        assert logits.shape == (clouds, points, 4)
        away = difference(expected, logits)
        # A value halfway between two codes may go the other way; each network must stay far below a lost step.
        assert away.mean < (1e-5 if precision == "float" else 5e-3), away


def test_only_what_the_logits_need_is_in_the_file():
    model = onnx_model(made("scenes"), neighbors="inputs")
    assert [output.name for output in model.graph.output] == ["logits"]
    inputs = {each.name for each in model.graph.input}
    assert {
        "pos",
        "centers_0",
        "centers_1",
        "idx_0_0",
        "idx_1_0",
        "nearest",
        "nearest_1",
        "weight",
        "weight_1",
    } == inputs
    assert {each.name for each in onnx_model(made("dgcnn")).graph.input} == {"pos", "y"}
    card = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(card["class"]) == {
        "encoder": "PointNet2", "decoder": "FeaturePropagation", "head": "PointClassifier"
    }  # fmt: skip
    assert json.loads(card["keywords"])["head"]["hidden"] == [8]
    steps = {e.key: e.value for e in onnx_model(rounded(made("scenes")), neighbors="inputs").metadata_props}
    assert [[step["step"] for step in each] for each in json.loads(steps["compression"]).values()] == [["quantize"]] * 3


@pytest.mark.parametrize("name", ["dgcnn", "scenes"])
def test_in_openvino(name, tmp_path):
    pytest.importorskip("openvino")
    network, search = made(name), SEARCHES.get(name, "inputs")
    path = export_openvino(network, tmp_path / "network.xml", neighbors=search)
    assert checked(network, path, "openvino", search, 2, 50).mean < 1e-5


def test_in_torch(tmp_path):
    network = made("scenes")
    path = export_torch(network, tmp_path / "network.pt2", random_clouds(network, 1, 40))
    assert checked(network, path, "torch", "inside", 1, 40).mean < 1e-5
    with pytest.raises(
        ConfigError, match="torch.export: the network reads the category of each cloud; export it as ONNX"
    ):
        export_torch(made("parts"), tmp_path / "parts.pt2", random_clouds(network, 1, 40))


def test_a_category_that_is_missing_or_unknown_is_refused():
    network = made("parts")
    batch = random_clouds(network, 2, 40)
    np.testing.assert_array_equal(onnx_inputs(network, batch)["y"], [0, 1])
    for y, value in ((torch.tensor([0, 3]), r"\[0, 3\]"), (torch.tensor([-1, 0]), r"\[-1, 0\]")):
        with pytest.raises(CloudError, match=f"y: expected the category of each cloud, from 0 to 2; found {value}"):
            onnx_inputs(network, with_(batch, y=y))
    del batch.y
    with pytest.raises(CloudError, match="from 0 to 2; found none"):
        onnx_inputs(network, batch)


def test_searches_that_onnx_does_not_have_are_refused():
    with pytest.raises(ConfigError, match="no farthest point sampling and no ball query; export a .* neighbors=inputs"):
        onnx_model(made("scenes"))


def test_coordinates_that_are_features_too_stay_exact_in_the_file(tmp_path):
    pytest.importorskip("onnxruntime")
    with seeds.seeded(0, "absolute"):
        encoder = PointNet2(**ABSOLUTE, in_channels=6)
    encoder(random_clouds(encoder, 4, 64))
    other = compress.calibrate(compress.quantize(encoder.eval(), 8, 3), [random_clouds(encoder, 4, 64)])
    path = export_onnx(other.eval(), tmp_path / "encoder.onnx", neighbors="inputs")
    away = checked(other, path, "onnx", "inputs", 3, 70)
    assert away.mean < 5e-3, away
