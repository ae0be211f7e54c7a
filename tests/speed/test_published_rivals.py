"""The published forms that an encoder is compared with: with its own widths, and with the published size."""

import pytest
import torch
from speed.published import FULL, SAME, Rivals, counterpart, size_of
from speed.published_dgcnn import PublishedDGCNN, edge_features, matmul_topk
from torch.overrides import TorchFunctionMode

from geo3d import compress
from geo3d.bench.inputs import dense, randomized, surfaces
from geo3d.compress.adaptive.slices import farthest_subset
from geo3d.encoders import DGCNN, PointNet, PointNet2

N = 48


def rivals(encoder, before=lambda batch: batch):
    return Rivals(encoder.eval(), surfaces(2, N), before)


def test_each_has_a_published_form_of_its_own_widths_and_the_full_one():
    found = rivals(DGCNN(k=4, channels=(8, 16), embedding=16, dynamic=False))
    assert found.sizes == {
        SAME: "DGCNN, channels 8-16, embedding 16, k = 4, one graph, 48 points",
        FULL: "DGCNN, channels 64-64-128-256, embedding 1024, k = 20, 48 points",
    }
    assert found.calls[found.sizes[SAME]]().shape == (2, 32) and found.calls[found.sizes[FULL]]().shape == (2, 2048)
    assert len(rivals(DGCNN()).calls) == 1  # its own size is the published one


def test_widths_are_those_that_pruning_left():
    pruned = compress.prune(DGCNN(k=4, channels=(32, 32), embedding=64), kept=0.3, shrink_output=True, one_shot=True)
    assert size_of(pruned) != size_of(DGCNN(k=4, channels=(32, 32), embedding=64))
    model = counterpart(pruned)
    assert [conv[0].out_channels for conv in model.convs] == list(pruned.channels)
    assert model(dense(surfaces(1, N))).shape == (1, pruned.cloud_channels)


def test_points_that_the_encoder_leaves_out_its_counterpart_does_not_see_either():
    found = rivals(DGCNN(k=4, channels=(8,), embedding=8), lambda batch: farthest_subset(batch, [16])[16])
    assert found.sizes[SAME].endswith("16 points") and found.sizes[FULL].endswith("48 points")


def test_classes_without_a_published_form_are_compared_with_none():
    assert not rivals(PointNet()).calls
    assert SAME in rivals(PointNet2(num_samples=(16, 8), width=0.125)).sizes
    assert SAME not in rivals(PointNet2(scales="msg", width=0.125)).sizes


@pytest.mark.parametrize("in_channels", [3, 5])
def test_one_graph_is_the_graph_of_the_coordinates(in_channels):
    encoder = randomized(DGCNN(k=6, channels=(8, 16), embedding=32, in_channels=in_channels, dynamic=False)).eval()
    batch = surfaces(2, 96)
    if in_channels > 3:
        batch.x = torch.randn(len(batch.pos), 2, generator=torch.Generator().manual_seed(0))
    x = torch.cat([batch.pos, batch.x], 1) if in_channels > 3 else batch.pos
    clouds = x.view(2, 96, -1).transpose(1, 2).contiguous()
    with torch.no_grad():
        expected = encoder(batch).cloud
        torch.testing.assert_close(PublishedDGCNN(encoder).eval()(clouds), expected, rtol=1e-4, atol=1e-4)


class Gathered(TorchFunctionMode):
    """Records whether indexed tensors are contiguous."""

    def __init__(self):
        super().__init__()
        self.contiguous = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.__getitem__:
            self.contiguous.append(args[0].is_contiguous())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("clouds", [1, 2])
def test_edges_are_gathered_from_rows_one_after_another_and_keep_channels_last(clouds):
    """A single cloud's rows are not a view of its columns, from which gathering would be slower."""
    x = dense(surfaces(clouds, N))
    index = matmul_topk(x, 4)
    with Gathered() as gathered:
        edges = edge_features(x, index)
    assert gathered.contiguous and all(gathered.contiguous)
    assert edges.shape == (clouds, 6, N, 4) and edges.permute(0, 2, 3, 1).is_contiguous()
