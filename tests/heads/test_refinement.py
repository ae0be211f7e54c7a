"""A start for the refinement: the joints of the frame before."""

import torch

from geo3d.cloud import Features, Layout, Level
from geo3d.heads import JointRefiner
from geo3d.seeds import generator, seeded


def refiner(**keywords):
    with seeded(0, "refiner"):
        head = JointRefiner(16, 8, num_joints=5, channels=12, k=4, steps=2, hidden=8, **keywords).eval()
        torch.nn.init.normal_(head.move.weight, std=0.05)
    return head


def features(clouds=3, points=10):
    draw = generator("start")
    pos, x = torch.randn(clouds * points, 3, generator=draw), torch.randn(clouds * points, 8, generator=draw)
    layout = Layout(torch.arange(clouds + 1) * points, points)
    cloud = torch.randn(clouds, 16, generator=draw)
    return Features(x, cloud, (Level(pos, layout, pos),))


@torch.no_grad()
def test_the_refinement_begins_with_the_given_joints():
    head, seen = refiner(), features()
    start = torch.randn(3, 5, 3, generator=generator("joints"))
    made = head(seen, start)
    assert torch.equal(made[0].joints, start) and len(made) == 3
    plain = head(seen)
    assert not torch.allclose(made[-1].joints, plain[-1].joints)
    again = head(seen, plain[0].joints)
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a.joints, b.joints)


@torch.no_grad()
def test_clouds_without_a_start_are_estimated():
    head, seen = refiner(), features()
    start = torch.randn(3, 5, 3, generator=generator("joints"))
    start[1] = torch.nan
    mixed, plain, begun = head(seen, start), head(seen), head(seen, start.nan_to_num())
    for step in range(3):
        torch.testing.assert_close(mixed[step].joints[1], plain[step].joints[1])
        torch.testing.assert_close(mixed[step].joints[[0, 2]], begun[step].joints[[0, 2]])
