"""What is read once stays, up to a limit."""

import pickle

import pytest
import torch
from torch.utils.data import Dataset
from torch_geometric.data import Data

from geo3d.data.cache import Cached, Room
from geo3d.errors import CloudError


class Numbers(Dataset):
    """Clouds of 12 bytes a point, and how often each was made."""

    def __init__(self, sizes=(100, 100, 100, 100)):
        self.sizes, self.made = sizes, [0] * len(sizes)

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        if index == 3:
            raise CloudError("cloud 3 is broken")
        self.made[index] += 1
        return Data(pos=torch.full((self.sizes[index], 3), float(index)))


def test_a_cloud_is_made_once_while_there_is_room():
    clouds = Cached(Numbers())
    assert clouds[0] is clouds[0] and len(clouds) == 4
    clouds.room.left = 1300  # one more
    for _ in range(2):
        assert [float(clouds[i].pos[0, 0]) for i in (0, 1, 2)] == [0, 1, 2]
    assert clouds.dataset.made == [1, 1, 2, 0] and clouds.room.left == 100 and sorted(clouds.kept) == [0, 1]


def test_what_is_broken_is_said_each_time():
    clouds = Cached(Numbers())
    for _ in range(2):
        with pytest.raises(CloudError, match="cloud 3 is broken"):
            clouds[3]


def test_clouds_that_come_together_are_kept_together():
    class Files(Numbers):
        def read_with(self, index):
            return {i: super(Files, self).__getitem__(i) for i in range(3)}

    clouds = Cached(Files())
    assert clouds[1].pos[0, 0] == 1 and sorted(clouds.kept) == [0, 1, 2]
    before, room = clouds.kept[2], clouds.room.left
    assert clouds[2] is before and clouds.dataset.made == [1, 1, 1, 0]
    del clouds.kept[1]
    assert clouds[1].pos[0, 0] == 1 and clouds.kept[2] is before  # the others are not counted twice
    assert clouds.room.left == room - 1200


def test_clouds_are_not_sent_to_workers():
    clouds = Cached(Numbers())
    before, whole = len(pickle.dumps(clouds)), clouds.room.left
    assert [len(clouds[i].pos) for i in range(3)] == [100] * 3 and clouds.room.left == whole - 3600
    again = pickle.loads(pickle.dumps(clouds))
    assert len(pickle.dumps(clouds)) < before + 100 and not again.kept and again.room.left == whole
    assert torch.equal(again[2].pos, clouds[2].pos)


def test_caches_share_room_and_give_it_back():
    room = Room(3000)
    one, two = Cached(Numbers(), room), Cached(Numbers(), room)
    assert one[0] is one[0] and two[0] is two[0] and one[1] is not one[1]
    assert room.left == 600
    del two
    assert room.left == 1800 and one[1] is one[1]
