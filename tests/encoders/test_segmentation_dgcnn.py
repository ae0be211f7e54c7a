"""DGCNN for segmentation: its graphs, its transformer, what is refused; see also test_published_segmentation."""

import pytest
import torch
from torch_geometric.data import Data

from geo3d.cloud import Layout, collate
from geo3d.encoders import SegmentationDGCNN
from geo3d.encoders.segmentation_dgcnn import Alignment
from geo3d.errors import ConfigError
from geo3d.seeds import generator, seeded


def clouds(channels: int = 0) -> Data:
    draw = generator("clouds")
    data = [Data(pos=torch.randn(size, 3, generator=draw)) for size in (30, 21)]
    for cloud in data:
        if channels:
            cloud.x = torch.rand(len(cloud.pos), channels, generator=draw)
    return collate(data)


def small(**keywords) -> SegmentationDGCNN:
    with seeded(0):
        return SegmentationDGCNN(**{"k": 5, "channels": ((8, 8), (12,)), "embedding": 16} | keywords)


def test_the_transformer_starts_as_the_identity_and_learns():
    encoder, batch = small(align=True), clouds()
    plain = small()
    plain.load_state_dict(encoder.state_dict(), strict=False)
    assert torch.equal(encoder.eval()(batch).point, plain.eval()(batch).point)
    with torch.no_grad(), seeded(1):
        encoder.alignment.last.weight.normal_(std=0.1)
    encoder.train()(batch).cloud.square().sum().backward()
    for name, parameter in encoder.alignment.named_parameters():
        assert bool((parameter.grad != 0).any()), name


def test_layers_of_an_encoder_with_a_transformer_keep_their_sizes():
    with pytest.raises(ConfigError, match="channels of a DGCNN with align=true cannot be taken out; use align=false"):
        small(align=True).with_channels({})


def test_each_cloud_has_a_matrix_of_its_own():
    with seeded(2):
        alignment = Alignment()
        torch.nn.init.normal_(alignment.last.weight)
    alignment.eval()
    batch = clouds()
    together = alignment(batch.pos, Layout(batch.ptr), 5)
    for start, end in ((0, 30), (30, 51)):
        alone = alignment(batch.pos[start:end], Layout(torch.tensor([0, end - start]), end - start), 5)
        torch.testing.assert_close(together[start:end], alone, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(together, batch.pos, atol=0.1)


def test_the_first_graph_is_that_of_the_named_columns():
    encoder, batch = small(in_channels=9, first_graph=(6, 9)).eval(), clouds(6)
    moved = batch.clone()
    moved.pos = moved.pos * torch.tensor([100.0, 1.0, 1.0])  # changes neighbours among all columns, but not among 6:9
    moved.x = moved.x.clone()
    with torch.no_grad():
        for layer in encoder.layers[0].mlp.linears[:1]:
            layer.weight[:, :3], layer.weight[:, 9:12] = 0.0, 0.0  # what the coordinates add
        assert torch.equal(encoder(batch).point[:, :8], encoder(moved).point[:, :8])
        other = small(in_channels=9).eval()
        other.load_state_dict(encoder.state_dict())
        assert not torch.equal(other(batch).point[:, :8], other(moved).point[:, :8])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"first_graph": (0, 4)}, r"first_graph: expected columns of the 3 inputs; found \(0, 4\)"),
        ({"first_graph": (2, 2)}, "first_graph: expected columns"),
        ({"align": True, "in_channels": 6}, "align transforms positions alone; give in_channels=3, not 6"),
        ({"channels": ()}, "channels"),
    ],
)
def test_what_does_not_fit_is_refused(keywords, message):
    with pytest.raises(ConfigError, match=message):
        small(**keywords)
