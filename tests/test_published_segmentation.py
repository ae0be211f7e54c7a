"""Public segmentation networks: their parameter counts, their files, and logits equal to the plain published form."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.reference_dgcnn import PublishedSegmentation
from support.reference_pointnet2 import PublishedParts, PublishedScene
from torch_geometric.data import Data

from geo3d.checkpoint import open_checkpoint, save_encoder
from geo3d.cloud import Layout, collate
from geo3d.encoders import PointNet2, SegmentationDGCNN
from geo3d.errors import CheckpointError, CloudError
from geo3d.network import PointNetwork
from geo3d.ops.search.knn import knn
from geo3d.published import KNOWN, from_published
from geo3d.published_segmentation import pointnet2_parts
from geo3d.seeds import generator, seeded

FILE = Path(__file__).parents[2] / "shared" / "data" / "published" / "dgcnn_semseg_s3dis_area5.t7"
SIZES = (90, 61)


def scrambled(module: torch.nn.Module, *inputs: Any) -> torch.nn.Module:
    """The module in evaluation mode with norms of its own, and their statistics from ``inputs``.

    With statistics that do not fit, every layer shrinks its input, and nothing would reach the logits.
    """
    draw = generator("norms")
    norms = [each for each in module.modules() if isinstance(each, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.weight.data.copy_(torch.randn(norm.weight.shape, generator=draw) + 0.5)
        norm.bias.data.copy_(torch.randn(norm.bias.shape, generator=draw) * 0.3)
        norm.momentum = 1.0
    with torch.no_grad():
        module.train()(*inputs)
    return module.eval()


def check_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Check that the logits are equal, and that they tell the points apart."""
    assert float(expected.std(0).mean()) > 0.1
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-3, atol=1e-3)


def clouds(inputs: int) -> list[torch.Tensor]:
    draw = generator("scene")
    return [torch.rand(size, inputs, generator=draw) for size in SIZES]


def batch_of(rows: list[torch.Tensor], **more: list[int]) -> Data:
    data = [Data(pos=row[:, :3], **({"x": row[:, 3:]} if row.shape[1] > 3 else {})) for row in rows]
    for i, cloud in enumerate(data):
        for name, values in more.items():
            cloud[name] = torch.tensor(values[i])
    return collate(data)


def near(k: int, columns: slice):
    """Neighbours as geo3d finds them: the search has its own tests, and ties must not decide here."""

    def tables(rows: list[torch.Tensor], first: bool) -> list[torch.Tensor]:
        found = []
        for row in rows:
            x = row[:, columns] if first else row
            found.append(knn(x.detach().contiguous(), Layout(torch.tensor([0, len(row)]), len(row)), k))
        return found

    return tables


def stored(module: torch.nn.Module, path: Path, *, parallel: bool = True) -> Path:
    state = {("module." if parallel else "") + key: value for key, value in module.state_dict().items()}
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("published", "count"),
    [
        (lambda: PublishedSegmentation(13), 983_552),
        (lambda: PublishedSegmentation(20), 985_344),
        (lambda: PublishedSegmentation(50, parts=True, inputs=3), 1_460_361),
        (lambda: PublishedScene("ssg"), 968_269),
        (lambda: PublishedScene("ssg", 20), 969_172),
        (lambda: PublishedScene("msg"), 1_883_269),
        (lambda: PublishedParts("ssg"), 1_411_250),
        (lambda: PublishedParts("ssg", inputs=6), 1_411_826),
        (lambda: PublishedParts("msg"), 1_740_958),
        (lambda: PublishedParts("msg", inputs=6), 1_741_822),
    ],
    ids=[
        "dgcnn 13",
        "dgcnn 20",
        "dgcnn parts",
        "pointnet2 ssg",
        "pointnet2 ssg 20",
        "pointnet2 msg",
        "pointnet2 ssg parts",
        "pointnet2 ssg parts, normals",
        "pointnet2 msg parts",
        "pointnet2 msg parts, normals",
    ],
)
def test_a_file_gives_the_whole_network_with_the_published_number_of_parameters(published, count, tmp_path):
    source = published()
    assert sum(p.numel() for p in source.parameters()) == count
    named = [name for name, reader in KNOWN if reader(dict(source.state_dict())) is not None]
    assert len(named) == 1 and "segmentation" in named[0]
    network = from_published(stored(source, tmp_path / "model.t7"))
    assert type(network) is PointNetwork and not network.training
    assert sum(p.numel() for p in network.parameters()) == count
    encoder = from_published(tmp_path / "model.t7", head=False)
    assert type(encoder) in (SegmentationDGCNN, PointNet2) and not encoder.training


def test_the_scene_network_of_dgcnn_is_the_published_one(tmp_path):
    with seeded(1):
        source = scrambled(PublishedSegmentation(13), rows := clouds(9), near(12, slice(6, 9)))
    network = from_published(stored(source, tmp_path / "model.t7"), k=12)
    with torch.no_grad():
        expected = source.double()([row.double() for row in rows], near(12, slice(6, 9)))
        found = network(batch_of(rows))
    assert found.shape == (sum(SIZES), 13)
    check_equal(found, expected)


def test_the_part_network_of_dgcnn_is_the_published_one(tmp_path):
    with seeded(2):
        source = PublishedSegmentation(50, parts=True, inputs=3)
        scrambled(source, rows := clouds(3), near(11, slice(None)), [4, 15])
    network = from_published(stored(source, tmp_path / "model.t7", parallel=False), k=11)
    with torch.no_grad():
        expected = source.double()([row.double() for row in rows], near(11, slice(None)), [4, 15])
        # in float64, because a swapped neighbour changes more than rounding does
        found = network.double()(batch_of([row.double() for row in rows], y=[4, 15]))
    check_equal(found, expected)
    network.float()
    with pytest.raises(CloudError, match="the head has 16 categories; give the clouds y"):
        network(batch_of(rows))
    with pytest.raises(CloudError, match=r"y: expected categories from 0 to 15; found \[4, 16\]"):
        network(batch_of(rows, y=[4, 16]))


@pytest.mark.parametrize("scales", ["ssg", "msg"])
def test_the_scene_networks_of_pointnet2_are_the_published_ones(scales, tmp_path):
    samples = (40, 20, 10, 5)
    with seeded(3):
        source = scrambled(PublishedScene(scales, samples=samples), rows := clouds(9))
    network = from_published(stored(source, tmp_path / "best_model.pth"), num_samples=samples)
    with torch.no_grad():
        expected = source(rows)
        found = network(batch_of(rows))
    check_equal(found, expected)


@pytest.mark.parametrize("inputs", [3, 6])
@pytest.mark.parametrize("scales", ["ssg", "msg"])
@pytest.mark.parametrize("sizes", [(60, 60), (90, 61, 18)], ids=["uniform", "ragged"])
def test_the_part_networks_of_pointnet2_are_the_published_ones(scales, inputs, sizes, tmp_path):
    samples, category = (40, 12), [4, 15, 0][: len(sizes)]
    rows = [torch.rand(size, inputs, generator=generator("part", size)) for size in sizes]
    with seeded(4):
        source = scrambled(PublishedParts(scales, inputs=inputs, samples=samples), rows, category)
    network = from_published(stored(source, tmp_path / "best_model.pth"), num_samples=samples)
    with torch.no_grad():
        check_equal(network(batch_of(rows, y=category)), source(rows, category))
        assert not torch.allclose(network(batch_of(rows, y=[5] * len(rows))), source(rows, category), atol=0.1)
    encoder = from_published(tmp_path / "best_model.pth", head=False, num_samples=samples)
    assert torch.equal(encoder(batch_of(rows)).cloud, network.encoder(batch_of(rows)).cloud)
    with pytest.raises(CloudError, match=r"the decoder has 16 categories; give the clouds y \(B,\)"):
        network(batch_of(rows))
    with pytest.raises(CloudError, match="y: expected categories from 0 to 15; found "):
        network(batch_of(rows, y=[16] * len(rows)))


@pytest.mark.parametrize("scales", ["ssg", "msg"])
def test_the_part_networks_of_pointnet2_are_trained_like_the_published_ones(scales, tmp_path):
    samples, category, rows = (30, 10), [2, 9], [cloud.double() for cloud in clouds(3)]
    with seeded(5):
        source = PublishedParts(scales, samples=samples).double()
    network = from_published(stored(source, tmp_path / "best_model.pth"), num_samples=samples).double().train()
    network.head.layers[3].eval()  # the dropout
    expected, found = source.train()(rows, category), network(batch_of(rows, y=category))
    torch.testing.assert_close(found, expected)
    ask = torch.randn(found.shape, generator=generator("ask"), dtype=torch.float64)
    (expected * ask).sum().backward()
    (found * ask).sum().backward()
    pairs = {
        "encoder.levels.0.scales.0.linears.0": source.sa1.mlp_convs[0] if scales == "ssg" else None,
        "encoder.last.linears.0": source.sa3.mlp_convs[0],
        "decoder.steps.0.0": source.fp3.mlp_convs[0],
        "decoder.steps.1.0": source.fp2.mlp_convs[0],
        "decoder.steps.2.0": source.fp1.mlp_convs[0],
        "head.layers.0": source.conv1,
    }
    for path, layer in pairs.items():
        if layer is not None:
            grad = network.get_submodule(path).weight.grad
            assert float(grad.abs().max()) > 0.1
            torch.testing.assert_close(grad, layer.weight.grad.flatten(1), rtol=1e-6, atol=1e-8)


def test_a_part_network_survives_its_checkpoint(tmp_path):
    samples, rows = (30, 10), clouds(3)
    with seeded(6):
        source = scrambled(PublishedParts("msg", samples=samples), rows, [3, 8])
    network = from_published(stored(source, tmp_path / "best_model.pth"), num_samples=samples)
    save_encoder(network.encoder, tmp_path / "a", head=network.head, decoder=network.decoder)
    opened = open_checkpoint(tmp_path / "a")
    assert opened.decoder.categories == 16 and opened.decoder.positions
    again = PointNetwork(opened.encoder, opened.decoder, opened.head)
    batch = batch_of(rows, y=[3, 8])
    assert torch.equal(again(batch), network(batch))


def test_part_and_scene_networks_of_pointnet2_are_told_apart_and_checked(tmp_path):
    state = PublishedParts("ssg").state_dict()
    for key in ("fp3.mlp_convs.0.weight", "fp1.mlp_convs.0.weight", "sa3.mlp_convs.0.weight"):
        assert pointnet2_parts({name: value for name, value in state.items() if name != key}) is None
    assert pointnet2_parts(dict(PublishedScene("ssg").state_dict())) is None
    cases = (
        ({"fp1.mlp_convs.0.weight": torch.zeros(128, 134, 1)}, "expected 134 columns and one per category; found 134"),
        ({"fp2.mlp_convs.0.weight": torch.zeros(256, 380, 1)}, r"steps.1.0.weight should be \(256, 384\)"),
        ({"conv2.weight": torch.zeros(50, 127, 1)}, r"head.layers.4.weight should be \(50, 128\)"),
        ({"sa1.mlp_convs.0.weight": torch.zeros(64)}, "damaged"),
    )
    for change, message in cases:
        torch.save(state | change, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match=message) as caught:
            from_published(tmp_path / "a.pth")
        assert "a.pth" in str(caught.value) and "\n" not in str(caught.value)


def test_a_damaged_file_of_a_segmentation_network_is_one_line(tmp_path):
    state = PublishedSegmentation(13).state_dict()
    for key, value in (("conv6.0.weight", torch.zeros(1024, 100, 1)), ("conv2.0.weight", torch.zeros(3))):
        torch.save(state | {key: value}, tmp_path / "a.t7")
        with pytest.raises(CheckpointError, match=r"a\.t7") as caught:
            from_published(tmp_path / "a.t7")
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not FILE.exists(), reason="the public weights are not here")
def test_public_weights_name_a_corner_of_a_room():
    """A floor, two walls and a ceiling of 3 m; the network was trained on real rooms, so only most points are right."""
    draw = generator("corner")
    plane = torch.rand(1024, 2, generator=draw)
    floor = torch.cat([plane, torch.zeros(1024, 1)], 1)
    ceiling = torch.cat([plane, torch.full((1024, 1), 3.0)], 1)
    wall = torch.stack([plane[:, 0], torch.zeros(1024), 3 * plane[:, 1]], 1)
    other = torch.stack([torch.zeros(1024), plane[:, 0], 3 * plane[:, 1]], 1)
    points = torch.cat([floor, ceiling, wall, other])
    centred = points - torch.tensor([0.5, 0.5, 0.0])
    extra = torch.cat([torch.full((4096, 3), 0.7), points / torch.tensor([1.0, 1.0, 3.0])], 1)
    with torch.no_grad():
        label = from_published(FILE, k=20)(Data(pos=centred, x=extra)).argmax(1)
    assert (label[:1024] == 1).float().mean() > 0.6  # floor
    assert (label[1024:2048] == 0).float().mean() > 0.6  # ceiling
    assert (label[2048:] == 2).float().mean() > 0.5  # walls
