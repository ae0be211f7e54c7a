"""The part of a room that networks are timed on, and published networks on blocks of any size."""

import pytest
import torch
from speed.room import STRIP, OneSize, strip
from torch_geometric.data import Data

from geo3d.cloud import collate


def test_a_strip_is_a_tenth_of_the_room_along_a_wall():
    cloud = strip(3000)
    assert len(cloud.pos) == STRIP * 3000 and cloud.x.shape == (300, 6)
    assert float(cloud.pos[:, 0].max() - cloud.pos[:, 0].min()) < 1.5 < float(cloud.pos[:, 1].max())


@pytest.mark.parametrize("sizes", [(5, 5, 5), (5, 4, 6)])
def test_blocks_of_one_size_run_together_and_others_one_by_one(sizes):
    seen = []

    def published(rows):  # (B, 9, N)
        seen.append(len(rows))
        return rows.transpose(1, 2).flatten(0, 1) * 2

    clouds = [Data(pos=torch.randn(size, 3), x=torch.randn(size, 6)) for size in sizes]
    batch = collate(clouds)
    torch.testing.assert_close(OneSize(published)(batch), 2 * torch.cat([batch.pos, batch.x], 1))
    assert seen == ([3] if len(set(sizes)) == 1 else [1, 1, 1])
