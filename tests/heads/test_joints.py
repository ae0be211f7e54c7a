"""Heads for joints against plain slow forms: one step, votes, and refinement, for clouds of one size and of several."""

import pytest
import torch

from geo3d.cloud import Features, Layout, Level
from geo3d.encoders import DGCNN, PointNet2
from geo3d.errors import ConfigError
from geo3d.heads import JointRefiner, JointRegressor, JointVoter
from geo3d.heads.joints import anchor_channels, anchors_of
from geo3d.heads.voting import softmax_over_clouds, sum_over_clouds
from geo3d.seeds import generator, seeded

CLOUDS, POINTS, WIDTH, BELOW, JOINTS = 3, 10, 6, 5, 4


def features(sizes=(POINTS,) * CLOUDS, dtype=torch.float64):
    draw = generator("joint features")
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    total, size = int(ptr[-1]), sizes[0] if len(set(sizes)) == 1 else None
    pos, x = (torch.randn(total, c, generator=draw, dtype=dtype) for c in (3, BELOW))
    cloud = torch.randn(len(sizes), WIDTH, generator=draw, dtype=dtype)
    levels = Level(pos, Layout(ptr, size), pos), Level(pos, Layout(ptr, size), x)
    return Features(x, cloud, levels)


def head(kind, **keywords):
    reads = {} if kind is JointRegressor else {"anchor_channels": BELOW}
    with seeded(3, kind.__name__):
        made = kind(WIDTH, num_joints=JOINTS, **reads, **keywords).double()
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


@pytest.mark.parametrize("kind", [JointRegressor, JointVoter, JointRefiner])
@pytest.mark.parametrize("sizes", [(POINTS,) * CLOUDS, (7, 12, 4)])
def test_clouds_do_not_see_each_other(kind, sizes):
    made, given = head(kind), features(sizes)
    together = made(given)[-1]
    ptr = given.levels[1].layout.ptr
    for row in range(len(sizes)):
        mine = slice(int(ptr[row]), int(ptr[row + 1]))
        layout = Layout(torch.tensor([0, sizes[row]]))
        own = Level(given.levels[1].pos[mine], layout, given.levels[1].x[mine])
        alone = made(Features(own.x, given.cloud[row : row + 1], (own, own)))[-1]
        torch.testing.assert_close(alone.joints[0], together.joints[row], atol=1e-10, rtol=0)
        torch.testing.assert_close(alone.log_std[0], together.log_std[row], atol=1e-10, rtol=0)


def test_one_step_is_a_small_network():
    made, given = head(JointRegressor, hidden=(8,)), features()
    rows = made.layers(given.cloud)
    (estimates,) = made(given)
    for row in range(CLOUDS):
        for joint in range(JOINTS):
            expected = rows[row, 4 * joint : 4 * joint + 4]
            torch.testing.assert_close(estimates.joints[row, joint], expected[:3])
            torch.testing.assert_close(estimates.log_std[row, joint], expected[3].clamp(-8, 2))


@pytest.mark.parametrize("sizes", [(POINTS,) * CLOUDS, (7, 12, 4)])
def test_votes_by_a_plain_loop(sizes):
    made, given = head(JointVoter, hidden=8), features(sizes)
    points, estimates = given.levels[1], made(given)[0]
    for row in range(len(sizes)):
        mine = range(int(points.layout.ptr[row]), int(points.layout.ptr[row + 1]))
        votes = []
        for i in mine:
            both = torch.cat([points.pos[i], points.x[i]])
            x = made.of_point.weight @ both + made.of_cloud.weight @ given.cloud[row] + made.of_cloud.bias
            hidden = torch.nn.functional.leaky_relu(made.norm(x[None])[0], 0.2)
            votes.append((made.votes.weight @ hidden + made.votes.bias).view(JOINTS, 4))
        votes = torch.stack(votes)
        for joint in range(JOINTS):
            weight = votes[:, joint, 0].softmax(0)
            places = points.pos[list(mine)] + votes[:, joint, 1:]
            middle = (weight[:, None] * places).sum(0)
            spread = (weight * (places - middle).square().mean(1)).sum()
            torch.testing.assert_close(estimates.joints[row, joint], middle, atol=1e-10, rtol=0)
            expected = 0.5 * (spread + 1e-6).log() + made.factor[joint]
            torch.testing.assert_close(estimates.log_std[row, joint], expected.clamp(-8, 2), atol=1e-10, rtol=0)


def test_sums_and_softmax_of_one_size_and_of_several_agree():
    x = torch.randn(12, 3, generator=generator("sums"), dtype=torch.float64)
    ends = torch.tensor([0, 4, 8, 12])
    for function in (sum_over_clouds, softmax_over_clouds):
        torch.testing.assert_close(function(x, Layout(ends, 4)), function(x, Layout(ends)))


@pytest.mark.parametrize("sizes", [(POINTS,) * CLOUDS, (7, 12, 4)])
def test_a_step_of_refinement_by_a_plain_loop(sizes):
    made, given = head(JointRefiner, channels=8, k=3, steps=2, hidden=8), features(sizes)
    points, estimates = given.levels[1], made(given)
    assert len(estimates) == 3
    for row in range(len(sizes)):
        mine = slice(int(points.layout.ptr[row]), int(points.layout.ptr[row + 1]))
        pos, x = points.pos[mine], points.x[mine]
        state = torch.tanh(made.state(given.cloud[row])) + made.names
        joints, log_std = estimates[0].joints[row], estimates[0].log_std[row]
        for step in (1, 2):
            rows = []
            for joint in range(JOINTS):
                near = (pos - joints[joint]).square().sum(1).argsort()[:3]
                seen = [made.of_point(x[i]) + made.of_place.weight @ (pos[i] - joints[joint]) for i in near]
                local = torch.relu(torch.stack(seen).amax(0))
                other = sum(made.others[joint, each] * state[each] for each in range(JOINTS))
                rows.append(made.update(torch.cat([local, other])[None], state[joint : joint + 1])[0])
            state = torch.stack(rows)
            moved = torch.stack([row @ own for row, own in zip(state, made.move, strict=True)]) + made.shift
            joints, log_std = joints + moved[:, :3], (log_std + moved[:, 3]).clamp(-8, 2)
            torch.testing.assert_close(estimates[step].joints[row], joints, atol=1e-9, rtol=0)
            torch.testing.assert_close(estimates[step].log_std[row], log_std, atol=1e-9, rtol=0)
            gate = made.gate(torch.cat([state.amin(0), state.amax(0)]))
            torch.testing.assert_close(estimates[step].go_on[row], gate[0], atol=1e-9, rtol=0)


def test_clouds_leave_one_by_one_and_keep_their_estimate():
    made, given = head(JointRefiner, channels=8, k=3, steps=4, hidden=8), features()
    every = made(given)
    chances = torch.stack([each.go_on.sigmoid() for each in every])
    made.exit_below = float(chances[1].detach().median())
    made_last = made(given)[-1]
    steps = set()
    for row in range(CLOUDS):
        left = next((i for i in range(5) if chances[i, row] < made.exit_below), 4)
        steps.add(left)
        torch.testing.assert_close(made_last.joints[row], every[left].joints[row])
    assert len(steps) > 1
    made.exit_below = 1.0
    assert len(made(given)) == 1
    made.train()
    assert len(made(given)) == 5  # all steps in training


def test_gradients_reach_every_weight_and_are_those_of_finite_differences():
    made, given = head(JointRefiner, channels=4, k=2, steps=1, hidden=4).eval(), features()
    x = given.levels[1].x.clone().requires_grad_(True)

    def total(x):
        estimates = made(given._replace(levels=(given.levels[0], given.levels[1]._replace(x=x))))
        return sum(each.joints.square().sum() + each.log_std.sum() for each in estimates), estimates[-1].go_on.sum()

    assert torch.autograd.gradcheck(lambda x: total(x)[0], (x,))
    loss, gate = total(x)
    (loss + gate).backward()
    assert float(x.grad.abs().max()) > 0
    x.grad = None
    total(x)[1].backward()
    assert x.grad is None  # what the gate learns changes nothing else
    assert all(p.grad is not None for p in made.parameters())


def test_anchors_are_the_first_level_or_all_points():
    for encoder, size, channels in ((PointNet2(num_samples=(6, 2), width=0.1), 6, 13), (DGCNN(k=3), 20, None)):
        from torch_geometric.data import Data

        made = encoder.eval()(Data(pos=torch.rand(20, 3, generator=generator("anchors"))))
        assert len(anchors_of(made).pos) == size and anchors_of(made).x.shape[1] == anchor_channels(encoder)
        assert channels is None or anchor_channels(encoder) == channels


def test_options_are_checked():
    with pytest.raises(ConfigError, match="exit_below"):
        JointRefiner(4, 4, exit_below=1.5)
    with pytest.raises(ConfigError, match="num_joints"):
        JointRegressor(4, num_joints=0)


def test_the_uncertainty_of_votes_does_not_move_the_joints():
    made, given = head(JointVoter, hidden=8), features()
    made(given)[0].log_std.sum().backward()
    assert made.votes.weight.grad is None and float(made.factor.grad.abs().min()) > 0
