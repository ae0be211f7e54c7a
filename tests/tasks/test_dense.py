"""Labels for every point: each point is seen as often as asked, and comes back in its own row."""

import pytest
import torch
from torch_geometric.data import Data

from geo3d.seeds import generator
from geo3d.tasks.dense import point_probabilities


def cloud(count: int) -> Data:
    pos = torch.rand(count, 3, generator=generator("cloud"))
    return Data(pos=pos, x=torch.arange(count)[:, None].float(), point_y=torch.zeros(count, dtype=torch.long))


class Telling(torch.nn.Module):
    """Logits that tell the point's number, and the number of times it was seen."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.seen, self.sizes = torch.zeros(count), []

    def forward(self, batch):
        numbers = batch.x[:, 0].long()
        self.seen.index_add_(0, numbers, torch.ones(len(numbers)))
        self.sizes += batch.ptr.diff().tolist()
        return torch.stack([batch.x[:, 0] / 100, torch.zeros(len(numbers))], 1)


def run(count, num_points, votes=1):
    network = Telling(count)
    found = point_probabilities(
        network,
        cloud(count),
        "a cloud",
        num_points=num_points,
        normalize="unit_sphere",
        pose=None,
        key=(0,),
        votes=votes,
    )
    expected = torch.stack([torch.arange(count) / 100, torch.zeros(count)], 1).softmax(1)
    torch.testing.assert_close(found, expected)
    return network


@pytest.mark.parametrize(("count", "num_points"), [(50, None), (50, 50), (50, 64)])
def test_a_small_cloud_is_seen_at_once(count, num_points):
    network = run(count, num_points)
    assert network.sizes == [50] and bool((network.seen == 1).all())


@pytest.mark.parametrize("votes", [1, 3])
def test_a_large_cloud_is_divided_and_every_point_is_seen(votes):
    network = run(103, 10, votes)
    assert network.sizes == [10] * 11 * votes and int(network.seen.sum()) == 110 * votes
    assert bool((network.seen >= votes).all()) and int((network.seen - votes).sum()) == 7 * votes


def test_the_division_depends_on_the_key_alone():
    orders = []
    for key in ((0,), (0,), (1,)):
        seen = []
        point_probabilities(
            lambda batch, seen=seen: seen.append(batch.x[:, 0]) or batch.x.expand(-1, 2), cloud(64), "a", num_points=16,
            normalize="none", pose=None, key=key,
        )  # fmt: skip
        orders.append(torch.cat(seen))
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])


def test_a_pose_turns_the_points():
    turned = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    found = []
    point_probabilities(
        lambda batch: found.append(batch.pos) or batch.pos, cloud(20), "a", num_points=None, normalize="none",
        pose=turned, key=(0,),
    )  # fmt: skip
    torch.testing.assert_close(found[0], cloud(20).pos @ turned.t())
