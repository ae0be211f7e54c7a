"""Exported encoders in ONNX Runtime and OpenVINO against geo3d, float and rounded."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.data import Batch

from geo3d import compress, seeds
from geo3d.checkpoint import description
from geo3d.cloud import Features, with_
from geo3d.deploy.onnx.check import (
    FEW,
    MEAN,
    TOLERANCE,
    Difference,
    checked,
    difference,
    in_onnxruntime,
    in_openvino,
    in_torch,
    random_clouds,
)
from geo3d.deploy.onnx.export import export_onnx, export_openvino, export_torch, onnx_inputs, onnx_model
from geo3d.deploy.onnx.layers import AT_ONCE
from geo3d.encoders import DGCNN, PointNet, PointNet2, SegmentationDGCNN
from geo3d.errors import CloudError, ConfigError
from geo3d.nn.linear import Linear
from geo3d.nn.quantizer import Quantizer
from geo3d.testing import tiny_batch

onnx = pytest.importorskip("onnx")

MAKE = {
    "dgcnn": lambda: DGCNN(k=6, channels=(16, 24, 16), embedding=32),
    "static": lambda: DGCNN(k=9, channels=(16, 8), embedding=32, in_channels=5, dynamic=False),
    "segmentation": lambda: SegmentationDGCNN(
        k=6, channels=((16, 24), (16,), (24, 16)), embedding=32, in_channels=6, first_graph=(3, 6)
    ),
    "pointnet": lambda: PointNet(embedding=32, width=0.25),
    "plain": lambda: PointNet(embedding=32, width=0.25, in_channels=6, input_transform=False, feature_transform=False),
    "ssg": lambda: PointNet2(num_samples=(24, 8), width=0.125),
    "msg": lambda: PointNet2("msg", num_samples=(24, 8), width=0.25, in_channels=6, start="farthest"),
}
MODES = [(name, mode) for name in ("dgcnn", "static", "segmentation") for mode in ("inside", "inputs")]
MODES += [("pointnet", "inside"), ("plain", "inside"), ("ssg", "inputs"), ("msg", "inputs")]
WHERE = {"onnxruntime": (export_onnx, ".onnx", in_onnxruntime), "openvino": (export_openvino, ".xml", in_openvino)}


def trained(encoder: nn.Module) -> nn.Module:
    """The encoder in evaluation, with norm scales of both signs, one of them 0, and statistics of real features."""
    draw = seeds.generator(0, "norms")
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.weight.data = torch.randn(len(module.weight), generator=draw)
            module.weight.data[0] = 0
            module.bias.data = torch.randn(len(module.bias), generator=draw)
    encoder.train()
    for _ in range(2):
        encoder(random_clouds(encoder, 4, 64))
    return encoder.eval()


@pytest.fixture(scope="module")
def encoders() -> dict[str, nn.Module]:
    with seeds.seeded(0, "exported"):
        return {name: trained(make()) for name, make in MAKE.items()}


def rounded(encoder: nn.Module, weights: int, activations: int) -> nn.Module:
    """The encoder quantised, with offsets that are not multiples of the steps."""
    made = compress.quantize(encoder, weights, activations)
    compress.calibrate(made, [random_clouds(encoder, 4, 64)])
    for module in made.modules():
        if isinstance(module, Quantizer) and module.shift is not None:
            module.shift.data -= 0.37 * module.step.detach()
    return made.eval()


def parity(encoder: nn.Module, folder: Path, runtime: str, neighbors: str, **options: object) -> list[Difference]:
    """The differences of one file for clouds of two shapes."""
    if runtime == "openvino":
        pytest.importorskip("openvino")
    else:
        pytest.importorskip("onnxruntime")
    write, suffix, run = WHERE[runtime]
    path = write(encoder, folder / f"encoder{suffix}", neighbors=neighbors, **options)
    found, run = [], run(path)
    for clouds, points in ((2, 40), (1, 65)):
        batch = random_clouds(encoder, clouds, points)
        with torch.no_grad():
            found.append(difference(encoder(batch), *run(onnx_inputs(encoder, batch, neighbors))))
    return found


@pytest.mark.parametrize(
    ("name", "neighbors", "runtime"),
    [(*mode, "onnxruntime") for mode in MODES]
    + [(*mode, "openvino") for mode in (("dgcnn", "inside"), ("static", "inputs"), ("pointnet", "inside"), MODES[-1])],
)
def test_float(name: str, neighbors: str, runtime: str, encoders: dict[str, nn.Module], tmp_path: Path) -> None:
    for found in parity(encoders[name], tmp_path, runtime, neighbors):
        assert found.acceptable(rounded=False, searched=neighbors == "inside"), found
        assert found.mean < 1e-5, found


@pytest.mark.parametrize(
    ("name", "bits", "runtime"),
    [(name, bits, "onnxruntime") for name in ("dgcnn", "pointnet", "ssg") for bits in ((8, 8), (4, 4), (3, 2))]
    + [("dgcnn", (4, 4), "openvino"), ("pointnet", (8, 8), "openvino"), ("ssg", (8, 8), "openvino")],
)
def test_rounded(
    name: str, bits: tuple[int, int], runtime: str, encoders: dict[str, nn.Module], tmp_path: Path
) -> None:
    """The file has the exact steps and offsets; only values halfway between two codes may differ."""
    encoder = rounded(encoders[name], *bits)
    for found in parity(encoder, tmp_path, runtime, "inside" if name == "pointnet" else "inputs"):
        assert found.fraction < 0.02 and found.mean < 2e-3, found
    assert checked(encoders[name], *_file(encoder, tmp_path, name)).mean > 1e-3  # rounding does something


def _file(encoder: nn.Module, folder: Path, name: str) -> tuple[Path, str, str, int, int]:
    pytest.importorskip("onnxruntime")
    neighbors = "inside" if name == "pointnet" else "inputs"
    return export_onnx(encoder, folder / "again.onnx", neighbors=neighbors), "onnx", neighbors, 2, 40


@pytest.mark.parametrize("options", [{"precision": "float"}, {"int4": True}, {"opset": 18}], ids=str)
def test_forms_of_a_rounded_encoder(options: dict[str, object], encoders: dict[str, nn.Module], tmp_path: Path) -> None:
    encoder = rounded(encoders["static"], 4, 4)
    for found in parity(encoder, tmp_path, "onnxruntime", "inputs", **options):
        assert found.fraction < 0.02 and found.mean < 2e-3, found
    model = onnx.load(tmp_path / "encoder.onnx")
    types = {each.data_type for each in model.graph.initializer}
    expected = {"float": set(), "int4": {onnx.TensorProto.INT4}, "opset": {onnx.TensorProto.INT8}}
    codes = types & {onnx.TensorProto.INT4, onnx.TensorProto.INT8}
    assert codes == (set() if "precision" in options else expected[next(iter(options))])


@pytest.mark.parametrize(
    ("name", "low_rank", "runtime"),
    [(name, low_rank, "onnxruntime") for name in ("dgcnn", "ssg") for low_rank in (False, True)]
    + [("dgcnn", False, "openvino")],
)
def test_structured(name: str, low_rank: bool, runtime: str, encoders: dict[str, nn.Module], tmp_path: Path) -> None:
    encoder = compress.structure(encoders[name], 2.0, min_channels=16, low_rank=low_rank).eval()
    assert any(isinstance(layer, Linear) and layer.pool is not None for layer in encoder.modules())
    for found in parity(encoder, tmp_path, runtime, "inputs"):
        assert found.largest < 1e-4, found
    both = rounded(encoder, 4, 4)
    for found in parity(both, tmp_path, runtime, "inputs"):
        assert found.fraction < 0.02 and found.mean < 2e-3, found


@pytest.mark.parametrize("group", ["weight", "channel"])
@pytest.mark.parametrize("name", ["dgcnn", "ssg"])
def test_pruned(name: str, group: str, encoders: dict[str, nn.Module], tmp_path: Path) -> None:
    for finished in (False, True):
        encoder = compress.prune(encoders[name], 0.5, group=group, one_shot=True)
        encoder = (compress.finalize(encoder) if finished else encoder).eval()
        for found in parity(encoder, tmp_path, "onnxruntime", "inputs"):
            assert found.largest < 1e-4, found


def test_few_points(encoders: dict[str, nn.Module], tmp_path: Path) -> None:
    """With fewer points than neighbours the neighbours are repeated, as in geo3d."""
    pytest.importorskip("onnxruntime")
    for name, neighbors in (("static", "inside"), ("dgcnn", "inside"), ("ssg", "inputs")):
        path = export_onnx(encoders[name], tmp_path / "encoder.onnx", neighbors=neighbors)
        assert checked(encoders[name], path, "onnx", neighbors, 3, 4).largest < 1e-4


def test_the_graph_is_factored(encoders: dict[str, nn.Module]) -> None:
    """Products are computed per point, not per edge, and only a few neighbours are gathered at a time."""
    encoder = encoders["dgcnn"]
    model = onnx.shape_inference.infer_shapes(onnx_model(encoder, neighbors="inputs", num_points=50, clouds=2))
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.value_info}
    layers = [node for node in model.graph.node if node.name.startswith("layers.")]
    products = [node.name for node in layers if node.op_type == "MatMul"]
    assert len(products) == 2 * len(encoder.layers) and all(shapes[name][:2] == [2, 50] for name in products)
    sizes = [np.prod(shapes[node.output[0]]) for node in layers if node.output[0] in shapes]
    assert max(sizes) == 2 * 50 * AT_ONCE * 24
    searches = [[node.op_type for node in each.graph.node].count("TopK") for each in (
        model, onnx_model(encoder), onnx_model(encoders["static"]),
    )]  # fmt: skip
    assert searches == [0, 3, 1]


def test_codes_stay_codes_through_the_gather(encoders: dict[str, nn.Module]) -> None:
    model = onnx.shape_inference.infer_shapes(onnx_model(rounded(encoders["static"], 8, 8), neighbors="inputs"))
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    gathers = [node.output[0] for node in model.graph.node if node.op_type == "GatherND"]
    assert len(gathers) == 2 * 9 and {types[name] for name in gathers} == {onnx.TensorProto.UINT8}
    codes = [onnx.numpy_helper.to_array(each) for each in model.graph.initializer if "weight_codes" in each.name]
    assert len(codes) == 3 and all(each.dtype == np.int8 and np.abs(each).max() <= 63 for each in codes)


def test_signed_and_per_channel_rounding(encoders: dict[str, nn.Module], tmp_path: Path) -> None:
    """Quantisers that compress.quantize does not make, but that the slots of the layers can hold."""
    encoder = compress.quantize(encoders["static"], 5, 5)
    encoder.layers[1].linear.input_quantizer = Quantizer.configuration(3, 6, 16)
    encoder.layers[1].neighbor_quantizer = Quantizer.configuration(2, 6)
    encoder.embed.input_quantizer = Quantizer.configuration(3, 8)
    compress.calibrate(encoder, [random_clouds(encoder, 4, 64)])
    for found in parity(encoder.eval(), tmp_path, "onnxruntime", "inputs"):
        assert found.fraction < 0.02 and found.mean < 2e-3, found


def test_the_file_says_what_it_is(encoders: dict[str, nn.Module], tmp_path: Path) -> None:
    encoder = rounded(encoders["ssg"], 8, 8)
    path = export_onnx(encoder, tmp_path / "new" / "encoder.onnx", neighbors="inputs", clouds=2, num_points=30)
    model = onnx.load(path)
    card = {entry.key: entry.value for entry in model.metadata_props}
    assert card["class"] == "PointNet2" and json.loads(card["keywords"]) == description(encoder)["keywords"]
    assert json.loads(card["compression"]) == encoder.compression
    assert (card["neighbors"], card["precision"]) == ("inputs", "int8")
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    given = onnx_inputs(encoder, random_clouds(encoder, 2, 30), "inputs")
    assert shapes == {name: list(value.shape) for name, value in given.items()}
    assert [file.name for file in path.parent.iterdir()] == ["encoder.onnx"]


def test_openvino_files(encoders: dict[str, nn.Module], tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    path = export_openvino(encoders["plain"], tmp_path / "encoder.xml")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["encoder.bin", "encoder.xml"]
    assert openvino.Core().read_model(path).get_rt_info(["geo3d", "class"]).value == "PointNet"
    with pytest.raises(ConfigError, match=r"encoder\.onnx: OpenVINO's files are called NAME\.xml"):
        export_openvino(encoders["plain"], tmp_path / "encoder.onnx")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ssg", {}, "export a PointNet2 with neighbors=inputs"),
        ("static", {"neighbors": "outside"}, "neighbors must be inside or inputs; found 'outside'"),
        ("static", {"precision": "int7"}, "precision must be auto, float or int8; found 'int7'"),
        ("static", {"precision": "int8"}, "no learned steps; quantise it first"),
        ("static", {"opset": 30}, "opset must be from 18 to 23; found 30"),
    ],
)
def test_what_cannot_be(
    name: str, options: dict[str, object], message: str, encoders: dict[str, nn.Module], tmp_path: Path
) -> None:
    path = tmp_path / "encoder.onnx"
    path.write_text("older")
    with pytest.raises(ConfigError, match=message):
        export_onnx(encoders[name], path, **options)
    assert path.read_text() == "older" and len(list(tmp_path.iterdir())) == 1


def test_adaptive_encoders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"export one of its sub-networks, encoder\.subnet\(setting\)"):
        export_onnx(compress.adapt(DGCNN(k=4, channels=(8, 8), embedding=8)), tmp_path / "encoder.onnx")


def test_clouds_of_several_sizes_are_refused(encoders: dict[str, nn.Module], tmp_path: Path) -> None:
    ragged = tiny_batch(num_points=[5, 9])
    for refuse in (
        lambda: onnx_inputs(encoders["dgcnn"], ragged),
        lambda: export_torch(encoders["dgcnn"], tmp_path / "encoder.pt2", ragged),
    ):
        with pytest.raises(CloudError, match="clouds of one size"):
            refuse()


def differently(batch: Batch) -> Batch:
    return with_(batch, pos=batch.pos.flip(0) * 0.7)


@pytest.mark.parametrize("name", ["static", "ssg"])
def test_torch_export(name: str, encoders: dict[str, nn.Module], tmp_path: Path) -> None:
    encoder = rounded(encoders[name], 4, 4) if name == "static" else encoders[name]
    batch = random_clouds(encoder, 2, 32)
    path = export_torch(encoder, tmp_path / "encoder.pt2", batch)
    run = in_torch(path)
    with torch.no_grad():
        for some in (batch, differently(batch)):
            assert difference(encoder(some), *run(onnx_inputs(encoder, some))).largest < 1e-5
    nodes = torch.export.load(path).graph.nodes
    assert any("geo3d." in str(node.target) for node in nodes)
    with pytest.raises(Exception, match="(?i)size|shape|guard"):  # of other sizes: torch says so
        run(onnx_inputs(encoder, random_clouds(encoder, 3, 32)))


def test_difference_counts_what_is_not_a_number() -> None:
    class Says(nn.Module):
        def forward(self, data: Batch):
            return Features(torch.ones(4, 2), torch.ones(1, 2))

    exact = Says()(tiny_batch(1, 4))
    point = np.ones((1, 4, 2), np.float32)
    assert difference(exact, point, np.ones((1, 2), np.float32)) == (0, 0, 0)
    point[0, 0, 0] = np.nan
    found = difference(exact, point, np.ones((1, 2), np.float32))
    assert found.fraction == 1 / 8
    assert not any(found.acceptable(rounded=r, searched=s) for r in (False, True) for s in (False, True))


def test_what_is_acceptable_goes_by_what_explains_it() -> None:
    near, far = 0.1 * TOLERANCE, 10 * TOLERANCE
    for rounded, searched, accepted in [
        (False, False, Difference(near, 1.0, 1.0)),  # the largest counts
        (False, True, Difference(far, 1.0, 0.1 * FEW)),  # a few values with other neighbours
        (True, False, Difference(far, 0.1 * MEAN, 1.0)),  # the mean
        (True, True, Difference(far, 0.1 * MEAN, 1.0)),
    ]:
        assert accepted.acceptable(rounded=rounded, searched=searched)
    for rounded, searched, refused in [
        (False, False, Difference(far, 0.0, 0.0)),
        (False, True, Difference(near, 0.0, 10 * FEW)),
        (True, False, Difference(near, 10 * MEAN, 0.0)),
        (True, True, Difference(near, 10 * MEAN, 0.0)),
    ]:
        assert not refused.acceptable(rounded=rounded, searched=searched)
