"""Layer graphs of the networks: correct and complete."""

import pytest
import torch
from torch import nn

from geo3d.cloud import layout_of
from geo3d.compress import prune, quantize, structure
from geo3d.decoders import FeaturePropagation
from geo3d.encoders import DGCNN, PointNet, PointNet2
from geo3d.encoders.inputs import point_inputs
from geo3d.errors import ConfigError
from geo3d.heads import Classifier, PointClassifier, Predictor, Projector
from geo3d.nn.describe import graph_of
from geo3d.nn.evaluate import Value, evaluate
from geo3d.nn.graph import WEIGHTED, input_layers, layers_of, rows_of
from geo3d.nn.linear import Linear
from geo3d.seeds import generator, seeded
from geo3d.testing import tiny_batch

ENCODERS = {
    "dgcnn": lambda c: DGCNN(k=5, channels=(8, 12), embedding=16, in_channels=c),
    "one graph": lambda c: DGCNN(k=5, channels=(8, 12), embedding=16, in_channels=c, dynamic=False),
    "one layer": lambda c: DGCNN(k=5, channels=(8,), embedding=16, in_channels=c),
    "pointnet": lambda c: PointNet(embedding=16, width=0.2, in_channels=c),
    "no transforms": lambda c: PointNet(16, c, input_transform=False, feature_transform=False, width=0.2),
    "ssg": lambda c: PointNet2(num_samples=(12, 6), width=0.1, in_channels=c),
    "msg": lambda c: PointNet2("msg", num_samples=(12, 6), width=0.1, in_channels=c, start="farthest"),
}
everyone = pytest.mark.parametrize("name", ENCODERS)


def made(name: str, in_channels: int = 3) -> nn.Module:
    """A network in evaluation mode whose running statistics are not the initial ones."""
    with seeded(0, "graph", name):
        encoder = ENCODERS[name](in_channels).double()
        for norm in encoder.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                norm.weight.data.normal_()
                norm.bias.data.normal_()
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2.0)
    return encoder.eval()


def inputs_of(encoder, batch) -> dict[str, Value]:
    x, layout = point_inputs(batch, encoder.in_channels), layout_of(batch)
    return {"pos": Value(batch.pos, layout), "x": Value(x[:, 3:], layout)}


@everyone
@pytest.mark.parametrize("in_channels", [3, 6])
@pytest.mark.parametrize("sizes", [24, [30, 9, 17]], ids=["uniform", "ragged"])
def test_the_graph_computes_what_the_encoder_computes(name, in_channels, sizes):
    encoder, batch = made(name, in_channels), tiny_batch(num_points=sizes, dtype=torch.float64)
    with torch.no_grad():
        features, values = encoder(batch), evaluate(encoder, encoder.layer_graph(), inputs_of(encoder, batch))
    torch.testing.assert_close(values["point"].x, features.point, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(values["cloud"].x, features.cloud, rtol=1e-9, atol=1e-9)
    rows = {op.path: values[op.path].x for op in encoder.layer_graph() if op.kind != "neighbors"}
    if sizes == 24:
        assert {path: len(x) for path, x in rows.items()} == {
            path: 3 * count for path, count in rows_of(encoder.layer_graph(), 24).items() if path in rows
        }


@everyone
def test_the_graph_holds_every_layer_and_norm_once(name):
    encoder = made(name, 6)
    ops = encoder.layer_graph()
    assert sorted(op.path for op in ops if op.kind in WEIGHTED) == sorted(
        path for path, module in encoder.named_modules() if isinstance(module, Linear)
    )
    norms = [path for path, module in encoder.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert sorted(op.norm for op in ops if op.norm) == sorted(norms)
    assert len({op.path for op in ops}) == len(ops)
    before: set[str] = set()
    for op in ops:
        assert before.issuperset(op.sources)
        before.add(op.path)
    assert {"point", "cloud"} <= before


@everyone
def test_inputs_of_layers_are_as_wide_as_their_sources(name):
    encoder = made(name, 6)
    width = {layer.name: len(encoder.get_submodule(layer.name).weight) for layer in layers_of(encoder.layer_graph())}
    for layer in layers_of(encoder.layer_graph()):
        columns = sum(width[source.of] if isinstance(source.of, str) else source.of for source in layer.sources)
        assert encoder.get_submodule(layer.name).weight.shape[1] == columns * (2 if layer.halves else 1)


@pytest.mark.parametrize("name", ["dgcnn", "one layer", "ssg", "msg"])
def test_an_encoder_is_made_with_other_channels(name):
    encoder = made(name)
    sizes = {op.path: 3 + i for i, op in enumerate(op for op in encoder.layer_graph() if op.kind in WEIGHTED)}
    other = encoder.with_channels(sizes)
    assert type(other) is type(encoder)
    for path, size in sizes.items():
        assert len(other.get_submodule(path).weight) == size
    same = encoder.with_channels({path: len(encoder.get_submodule(path).weight) for path in sizes})
    assert {k: v.shape for k, v in same.state_dict().items()} == {k: v.shape for k, v in encoder.state_dict().items()}


def test_layers_whose_coordinates_stay_exact():
    assert input_layers(made("dgcnn", 6).layer_graph()) == {"layers.0.linear"}
    assert input_layers(made("pointnet").layer_graph()) == {"input_net.pool.linears.0", "local.0"}
    assert input_layers(made("ssg").layer_graph()) == {"levels.0.scales.0.linears.0"}
    assert input_layers(made("ssg", 6).layer_graph()) == set()  # its coordinates are separate columns
    assert input_layers(PointNet2(absolute=True).layer_graph()) == {"levels.0.scales.0.linears.0"}
    assert input_layers(PointNet2(absolute=True, in_channels=6).layer_graph()) == set()
    assert input_layers(Classifier(8, 3).layer_graph()) == set()
    absolute = {"levels.0.scales.0.linears.0"}  # coordinates relative to the centre, and as they are
    assert input_layers(PointNet2(absolute=True).layer_graph()) == absolute
    assert input_layers(PointNet2(absolute=True, in_channels=6).layer_graph()) == set()


def test_heads_and_decoders_of_points_read_features():
    assert input_layers(PointClassifier(8, 3).layer_graph()) == set()
    assert input_layers(PointClassifier(8, 3, categories=2).layer_graph()) == {"category"}
    for cloud in (True, False):
        channels = ((8, 8), (8, 8), (8, 8))[: 2 + cloud]
        assert input_layers(FeaturePropagation((3, 8, 9), 10, channels, cloud=cloud).layer_graph()) == set()
    rows = rows_of(PointClassifier(8, 3, categories=2).layer_graph(), 24)
    assert rows["category"] == 1 and rows["joined"] == 24


@pytest.mark.parametrize(
    "head, last",
    [
        (Classifier(8, 3, hidden=(6, 5), dropout=0.0), 2),
        (Classifier(8, 3, hidden=(6,), dropout_first=True, negative_slope=0.0), 1),
        (Projector(8, 6, 4, num_layers=3), 2),
        (Predictor(8, 6), 1),
    ],
    ids=["classifier", "dropout first", "projector", "predictor"],
)
def test_heads_describe_themselves(head, last):
    head = head.double().eval()
    cloud = torch.randn(5, 8, generator=generator(0, "head"), dtype=torch.float64)
    values = evaluate(head, head.layer_graph(), {"cloud": Value(cloud, None)})
    torch.testing.assert_close(values["logits"].x, head(cloud))
    layers = layers_of(head.layer_graph())
    assert len(layers) == last + 1 and not layers[-1].norm and all(layer.norm for layer in layers[:-1])


class Silent(nn.Module):
    """An encoder without a layer_graph."""

    in_channels, point_channels, cloud_channels = 3, 4, 4

    def __init__(self) -> None:
        super().__init__()
        self.first = Linear(3, 4)


@pytest.mark.parametrize(
    "step", [quantize, structure, prune, lambda encoder: prune(encoder, group="weight")], ids=["q", "s", "p", "w"]
)
def test_an_encoder_without_a_graph_is_refused_in_one_line(step):
    with pytest.raises(ConfigError, match=r"^(quantize|structure|prune): Silent does not describe its layers; .*$"):
        step(Silent())
    with pytest.raises(ConfigError, match="counting: Silent does not"):
        graph_of(Silent(), "counting")


def test_an_encoder_of_fixed_widths_loses_no_channels():
    with pytest.raises(ConfigError, match="channels of a PointNet cannot be taken out"):
        prune(made("pointnet").float())
