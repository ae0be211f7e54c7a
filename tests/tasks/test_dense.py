"""Labels for every point: each point is seen as often as asked, and comes back in its own row."""

import pytest
import torch
from torch_geometric.data import Data

from geo3d.seeds import generator
from geo3d.tasks.dense import FAINT, Division, point_probabilities


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
        Division(num_points, votes),
        normalize="unit_sphere",
        pose=None,
        key=(0,),
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
            lambda batch, seen=seen: seen.append(batch.x[:, 0]) or batch.x.expand(-1, 2), cloud(64), "a", Division(16),
            normalize="none", pose=None, key=key,
        )  # fmt: skip
        orders.append(torch.cat(seen))
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])


def test_a_pose_turns_the_points():
    turned = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    found = []
    point_probabilities(
        lambda batch: found.append(batch.pos) or batch.pos, cloud(20), "a", Division(None), normalize="none",
        pose=turned, key=(0,),
    )  # fmt: skip
    torch.testing.assert_close(found[0], cloud(20).pos @ turned.t())


def scene(count=3000):
    """Points on a floor of 3 x 2, far from the origin, with their numbers."""
    pos = torch.rand(count, 3, generator=generator("scene")) * torch.tensor([3.0, 2.0, 0.5])
    return Data(pos=pos + torch.tensor([50.0, -20.0, 7.0]), x=torch.arange(count)[:, None].float())


@pytest.mark.parametrize(("block", "steps", "turns"), [(1.0, 2, 1), (0.7, 1, 1), (1.0, 3, 2), (9.0, 2, 1)])
def test_blocks_show_every_point_in_its_own_row_weighted_by_a_gaussian(block, steps, turns):
    """A network that gives the distance from the middle of the block: the result is the weighted mean."""
    cloud, seen = scene(), torch.zeros(3000)
    rows, weights = torch.zeros(3000, 2), torch.zeros(3000)

    def network(batch):
        number, square = batch.x[:, 0].long(), batch.pos[:, :2].square().sum(1)
        seen.index_add_(0, number, torch.ones(len(number)))
        logits = torch.stack([square, torch.zeros(len(number))], 1)
        weight = (-square / 2 / (block / 4) ** 2).exp().clamp(min=FAINT)
        rows.index_add_(0, number, logits.softmax(1) * weight[:, None])
        weights.index_add_(0, number, weight)
        assert float(batch.pos[:, 2].min()) > -0.01 and float(batch.pos[:, 2].max()) < 0.51  # from the floor
        return logits

    done = []
    probabilities = point_probabilities(
        network, cloud, "a scene", Division(64, 1, block, steps, turns), normalize="none", pose=None, key=(0,),
        watch=lambda now, all_: done.append((now, all_)),
    )  # fmt: skip
    assert bool((seen >= turns).all())
    torch.testing.assert_close(probabilities, rows / weights[:, None], rtol=1e-3, atol=1e-4)
    blocks = done[-1][1]
    assert done == [(each, blocks) for each in range(1, blocks + 1)] and blocks % turns == 0
    if block == 9.0:
        assert blocks == 1


def test_turns_show_the_cloud_in_equally_spaced_poses():
    angles = []

    def network(batch):
        angles.extend(torch.atan2(batch.pos[:, 1], batch.pos[:, 0])[batch.x[:, 0] == 0])
        return batch.pos[:, :2]

    point_probabilities(network, scene(50), "a", Division(None, turns=4), normalize="none", pose=None, key=(0,))
    steps = torch.stack(angles).diff() % (2 * torch.pi)
    torch.testing.assert_close(steps, torch.full((3,), torch.pi / 2), rtol=1e-4, atol=1e-4)
