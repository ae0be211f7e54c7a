"""A start for the refinement: the joints of the frame before."""

import pytest
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
    head.exit_below = 1.0
    stopped = head(seen, torch.where(torch.arange(3)[:, None, None] == 1, start, torch.nan))
    assert len(stopped) == 2  # a start is always followed by a step; the others stop at once
    assert torch.equal(stopped[1].joints[[0, 2]], stopped[0].joints[[0, 2]])
    assert not torch.equal(stopped[1].joints[1], stopped[0].joints[1])


@pytest.mark.parametrize("begun", [False, True])
def test_the_first_estimate_does_not_learn_what_it_cannot_know(begun):
    head, seen = refiner().train(), features()
    start = torch.randn(3, 5, 3, generator=generator("joints")) if begun else torch.full((3, 5, 3), torch.nan)
    made = head(seen, start)[0]
    (made.log_std.sum() + made.go_on.sum()).backward()
    learned = [part for part in (head.first, head.gate) if any(bool(p.grad.any()) for p in part.parameters())]
    assert learned == ([] if begun else [head.first, head.gate])
    assert bool((made.go_on.sigmoid() > 0.999).all()) == begun


@torch.no_grad()
def test_clouds_without_a_start_are_estimated():
    head, seen = refiner(), features()
    start = torch.randn(3, 5, 3, generator=generator("joints"))
    start[1] = torch.nan
    mixed, plain, begun = head(seen, start), head(seen), head(seen, start.nan_to_num())
    for step in range(3):
        torch.testing.assert_close(mixed[step].joints[1], plain[step].joints[1])
        torch.testing.assert_close(mixed[step].joints[[0, 2]], begun[step].joints[[0, 2]])
