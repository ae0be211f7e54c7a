"""Features of large clouds: what the encoder sees is its own, the rest lies between."""

import torch
from torch_geometric.data import Data

from geo3d.checkpoint import open_checkpoint, save_encoder
from geo3d.cloud import Layout, collate
from geo3d.encoders import DGCNN
from geo3d.geometry.normalize import unit_sphere
from geo3d.jobs.inspected.encoded import encoded, seen_by
from geo3d.jobs.inspected.neighbors import neighbors
from geo3d.jobs.inspected.source import Source
from geo3d.ops.search.knn import knn
from geo3d.seeds import seeded


def opened(tmp_path):
    with seeded(0, "encoder"):
        encoder = DGCNN(k=4, channels=(8, 8), embedding=16)
    save_encoder(encoder, tmp_path / "encoder", input={"normalize": "unit_sphere"})
    return open_checkpoint(tmp_path / "encoder")


def cloud(count: int) -> Data:
    return Data(pos=3 + torch.rand(count, 3, generator=torch.Generator().manual_seed(0)))


def test_small_clouds_have_the_features_of_the_encoder(tmp_path):
    network, source = opened(tmp_path), cloud(60)
    result = encoded(network, Source(source, "a"), 100)
    center, scale = unit_sphere(source.pos)
    with torch.no_grad():
        expected = network.encoder(collate([Data(pos=(source.pos - center) / scale)])).point
    torch.testing.assert_close(result.features, expected)
    torch.testing.assert_close(result.pos, (source.pos - center) / scale)
    assert result.rows.tolist() == list(range(60)) and result.notes == ()


def test_large_clouds_are_interpolated_from_what_the_encoder_saw(tmp_path):
    network, source = opened(tmp_path), cloud(200)
    result = encoded(network, Source(source, "a"), 50, torch.tensor([199, 3]))
    seen = seen_by(network, Source(source, "a"), 50, torch.tensor([199, 3]))
    assert len(seen.rows) == 50 and {3, 199} <= set(seen.rows.tolist()) and result.rows.tolist() == list(range(200))
    with torch.no_grad():
        own = network.encoder(seen.batch).point
    torch.testing.assert_close(result.features[seen.rows], own, rtol=1e-3, atol=1e-3)
    pos = result.pos.double()
    for row in (0, 77, 150):
        distance = (pos[seen.rows] - pos[row]).square().sum(1)
        least = distance.argsort()[:3]
        weight = 1 / (distance[least] + 1e-8)
        expected = (weight[:, None] * own[least]).sum(0) / weight.sum()
        torch.testing.assert_close(result.features[row].double(), expected, rtol=1e-3, atol=1e-4)
    assert result.notes == ("a: 50 of 200 points were encoded; the rest are means of the three nearest.",)


def test_neighbours_are_those_of_the_layers(tmp_path):
    network, source = opened(tmp_path), cloud(60)
    scene = neighbors(network, Source(source, "a"), 100, 11)
    center, scale = unit_sphere(source.pos)
    pos, layout = (source.pos - center) / scale, Layout(torch.tensor([0, 60]), 60)
    with torch.no_grad():
        x = network.encoder.layers[0](pos, knn(pos, layout, 4))
    for pane, rows in zip(scene.panes, (knn(pos, layout, 4)[11], knn(x, layout, 4)[11]), strict=True):
        assert pane.points[1].numbers.tolist() == sorted(set(rows.tolist()) - {11})
    assert [pane.title.split(":")[0] for pane in scene.panes] == ["layer 1, by coordinates", "layer 2, by features"]
