"""A whole network for points: which parts are told the category of a cloud, and the graph of all three."""

import pytest
import torch
from torch.nn import functional

from geo3d.cloud import Layout, layout_of, with_
from geo3d.decoders import FeaturePropagation, GlobalConcat, Upcast
from geo3d.decoders.build import decoder_for
from geo3d.encoders import DGCNN, PointNet, PointNet2, SegmentationDGCNN
from geo3d.errors import CloudError, ConfigError
from geo3d.heads import PointClassifier
from geo3d.network import PointNetwork, PointRows, point_logits
from geo3d.nn.describe import graph_of
from geo3d.nn.evaluate import Value, evaluate
from geo3d.seeds import seeded
from geo3d.testing import tiny_batch

SMALL = ((8, 8), (8, 6))


def parts(**keywords):
    with seeded(0):
        encoder = PointNet2(num_samples=(12, 6), width=0.1, absolute=True)
        return encoder.eval(), decoder_for(encoder, FeaturePropagation, **keywords).eval()


def test_a_decoder_with_categories_is_told_that_of_each_cloud():
    encoder, decoder = parts(categories=3)
    told = with_(tiny_batch(num_points=[30, 20]), y=torch.tensor([2, 0]))
    batch = told.clone()
    del batch.y
    rows = PointRows(encoder, decoder)(told)
    assert torch.equal(rows, decoder(encoder(batch), told.y))
    assert not torch.allclose(rows, decoder(encoder(batch), told.y.flip(0)))
    with pytest.raises(CloudError, match="the decoder has 3 categories; give the clouds y"):
        PointRows(encoder, decoder)(batch)


@pytest.mark.parametrize(("of_decoder", "of_head"), [(0, 0), (3, 0), (0, 3), (3, 3)])
def test_logits_depend_on_the_category_where_a_part_has_categories(of_decoder, of_head):
    encoder, decoder = parts(categories=of_decoder)
    with seeded(1):
        head = PointClassifier(decoder.out_channels, 4, hidden=(8,), dropout=0.0, categories=of_head).eval()
    batch = with_(tiny_batch(num_points=[30, 20]), y=torch.tensor([2, 0]))
    logits = PointNetwork(encoder, decoder, head)(batch)
    assert torch.equal(logits, point_logits(decoder, head, encoder(batch), batch.y, layout_of(batch)))
    other = PointNetwork(encoder, decoder, head)(with_(batch, y=torch.tensor([2, 1])))
    assert torch.equal(other[:30], logits[:30])
    assert torch.allclose(other[30:], logits[30:]) != bool(of_decoder or of_head)


def test_other_decoders_need_no_category():
    encoder, _ = parts()
    batch = tiny_batch(num_points=[30, 20])
    decoder = decoder_for(encoder, Upcast)
    assert torch.equal(PointRows(encoder, decoder)(with_(batch, y=torch.tensor([9, 9]))), decoder(encoder(batch)))


def propagated(encoder, **keywords):
    return decoder_for(encoder, FeaturePropagation, **({"channels": (*SMALL, (5,)), "cloud": True} | keywords))


def aligned():
    encoder = SegmentationDGCNN(k=4, channels=((8, 8), (8,)), embedding=8, align=True)
    torch.nn.init.normal_(encoder.alignment.last.weight, std=0.05)
    return encoder


NETWORKS = {
    "dgcnn": (lambda: DGCNN(k=4, channels=(8, 8), embedding=8), GlobalConcat, 0),
    "scene": (lambda: SegmentationDGCNN(k=4, channels=((8, 8), (8,)), embedding=8, in_channels=6), GlobalConcat, 0),
    "aligned": (aligned, GlobalConcat, 3),
    "pointnet": (lambda: PointNet(embedding=8, width=0.1), Upcast, 0),
    "levels": (lambda: PointNet2(num_samples=(12, 6), width=0.1), Upcast, 2),
    "parts": (lambda: PointNet2("msg", num_samples=(12, 6), width=0.1, in_channels=6), propagated, 3),
    "told": (
        lambda: PointNet2(num_samples=(12, 6), width=0.1, absolute=True),
        lambda level_channels, cloud_channels: FeaturePropagation(
            level_channels, cloud_channels, (*SMALL, (5,)), categories=3, positions=True
        ),
        0,
    ),
    "scenes": (
        lambda: PointNet2(
            num_samples=(12, 6), radii=(0.4, 0.8), num_neighbors=(5, 6), channels=((8, 8), (8, 9)), absolute=True
        ),
        lambda level_channels, cloud_channels: FeaturePropagation(level_channels, cloud_channels, SMALL, cloud=False),
        0,
    ),
}


def made(name):
    make, decoder, categories = NETWORKS[name]
    with seeded(0, name):
        encoder = make()
        rows = decoder(encoder) if decoder is propagated else decoder_for(encoder, decoder)
        head = PointClassifier(rows.out_channels, 4, hidden=(8,), dropout=0.5, categories=categories)
        network = PointNetwork(encoder, rows, head)
    for _ in range(2):
        network.train()(clouds(network, 30))
    return network.eval()


def clouds(network, sizes):
    batch = tiny_batch(num_points=sizes)
    if network.categories:
        batch.y = torch.arange(batch.num_graphs) % network.categories
    return batch


@pytest.mark.parametrize("sizes", [24, [30, 9, 17]], ids=["uniform", "ragged"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_graph_computes_the_logits(name, sizes):
    network = made(name)
    batch = clouds(network, sizes)
    ops, layout = graph_of(network, "test"), layout_of(batch)
    inputs = {"pos": Value(batch.pos, layout)}
    if network.in_channels > 3:
        inputs["x"] = Value(batch.normal, layout)
    if network.categories:
        each = torch.arange(batch.num_graphs + 1)
        inputs["y"] = Value(functional.one_hot(batch.y, network.categories).float(), Layout(each, 1))
    assert {op.path for op in ops if op.kind == "input"} == set(inputs)
    with torch.no_grad():
        values = evaluate(network, ops, inputs, ["logits"])
        torch.testing.assert_close(values["logits"].x, network(batch), rtol=1e-4, atol=1e-4)


def test_a_level_that_the_graph_does_not_name_is_refused():
    class Hidden(PointNet2):
        def forward(self, data):
            return super().forward(data)

        def layer_graph(self):
            renamed = {"levels.0": "first"}
            return tuple(
                op._replace(
                    path=renamed.get(op.path, op.path), sources=tuple(renamed.get(name, name) for name in op.sources)
                )
                for op in super().layer_graph()
            )

    encoder = Hidden(num_samples=(12, 6), width=0.1)
    decoder = decoder_for(encoder, Upcast)
    network = PointNetwork(encoder, decoder, PointClassifier(decoder.out_channels, 3, hidden=(), dropout=()))
    with pytest.raises(
        ConfigError, match=r"^decoder: reads levels.1.pos, which the layer_graph of Hidden does not have"
    ):
        network.layer_graph()
