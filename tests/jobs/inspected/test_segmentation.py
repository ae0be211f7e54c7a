"""What is drawn of a segmentation is what ``geo3d predict`` says."""

import pytest
import torch
from torch_geometric.data import Data

from geo3d.checkpoint import open_checkpoint, save_encoder
from geo3d.decoders import GlobalConcat
from geo3d.encoders import DGCNN
from geo3d.errors import CheckpointError
from geo3d.heads import PointClassifier
from geo3d.jobs.inspected.segmentation import segmentation
from geo3d.jobs.inspected.source import Source
from geo3d.seeds import seeded

NAMES = ["seat", "back", "wing", "tail"]


def opened(tmp_path, **card):
    with seeded(0, "network"):
        encoder = DGCNN(k=4, channels=(8, 8), embedding=16)
        decoder = GlobalConcat(encoder.point_channels, encoder.cloud_channels)
        head = PointClassifier(decoder.out_channels, len(NAMES))
    save_encoder(encoder, tmp_path / "encoder", head=head, decoder=decoder, classes=NAMES, **card)
    return open_checkpoint(tmp_path / "encoder")


def cloud(**fields) -> Data:
    pos = torch.rand(60, 3, generator=torch.Generator().manual_seed(0))
    return Data(pos=pos, point_y=torch.arange(60) % 4, **fields)


@pytest.mark.parametrize("category", [0, 1])
def test_only_parts_of_the_class_are_predicted(tmp_path, category):
    network = opened(tmp_path, categories=["chair", "plane"], groups=[[0, 1], [2, 3]])
    scene = segmentation(network, Source(cloud(y=torch.tensor([category])), "a", classes=tuple(NAMES)))
    predicted = scene.panes[2].points[0].colorings[0].values
    assert set(predicted.tolist()) <= {2 * category, 2 * category + 1}


def test_a_cloud_without_its_class_is_refused(tmp_path):
    network = opened(tmp_path, categories=["chair", "plane"], groups=[[0, 1], [2, 3]])
    with pytest.raises(CheckpointError, match="a does not say its class"):
        segmentation(network, Source(cloud(), "a"))
