"""Poses, what they must not do, and the tube of the forearm."""

import itertools
import math

import numpy as np
import pytest
import torch

from geo3d.data.hands.drawing import possible_poses
from geo3d.data.hands.forearm import forearm
from geo3d.data.hands.model import hand_model
from geo3d.data.hands.pose import COUPLED, HELD_OUT, LIMITS, is_held_out, pattern, random_poses
from geo3d.data.hands.touching import run_into_each_other, segment_distance
from geo3d.data.hands.view import CONE, LEFT_OUT, facing, is_left_out, random_views
from geo3d.seeds import generator


def test_poses_stay_within_their_limits_and_reach_them():
    angles = random_poses(4000, generator("poses"))
    assert bool(((angles >= LIMITS[..., 0]) & (angles <= LIMITS[..., 1])).all())
    reach = (angles.amax(0) - angles.amin(0)) / (LIMITS[..., 1] - LIMITS[..., 0])
    assert float(reach[1:, 1:3].min()) > 0.95 and float(reach.min()) > 0.5


def test_the_last_joint_follows_the_middle_one():
    angles = random_poses(4000, generator("poses"))[:, 1:]
    slope = np.polyfit(angles[..., 2].flatten().numpy(), angles[..., 3].flatten().numpy(), 1)[0]
    assert slope == pytest.approx(COUPLED, abs=0.08)


def test_neighbouring_fingers_bend_together_more_than_distant_ones():
    correlation = np.corrcoef(random_poses(4000, generator("poses"))[:, 1:, 1].T.numpy())
    assert correlation[2, 3] > correlation[0, 3] + 0.05 and correlation[0, 1] > 0.4


def test_some_thumbs_meet_a_finger():
    angles = random_poses(1000, generator("pinches"))
    joints = hand_model().joints(torch.zeros(1000, hand_model().shapes), angles)
    near = (joints[:, 4:5] - joints[:, 8::4]).norm(dim=2) < 0.022
    assert 0.15 < float(near.any(1).float().mean()) < 0.45
    assert float(near.float().mean(0).min()) > 0.02  # each of the four fingers


def test_a_pattern_is_which_fingers_are_straight():
    angles = torch.zeros(2, 5, 4)
    angles[1, [0, 2, 3]] = 1.0
    assert pattern(angles).tolist() == [[True] * 5, [False, True, False, False, True]]
    assert is_held_out(angles).tolist() == [False, True]
    assert (0, 1, 0, 0, 1) in HELD_OUT


def test_segments_have_their_distance():
    draw = generator("segments")
    a, b, c, d = torch.randn(4, 300, 3, generator=draw, dtype=torch.float64)
    c[:20], d[:20] = a[:20] + 1, b[:20] + 1  # parallel
    steps = torch.linspace(0, 1, 201, dtype=torch.float64)
    first = a[:, None] + steps[:, None] * (b - a)[:, None]
    second = c[:, None] + steps[:, None] * (d - c)[:, None]
    slow = torch.cdist(first, second).amin((1, 2))
    distance = segment_distance(a, b, c, d)
    assert bool((distance <= slow + 1e-9).all()) and float((slow - distance).max()) < 0.02
    point = segment_distance(a, a, c, d)
    torch.testing.assert_close(point, torch.cdist(a[:, None], second)[:, 0].amin(1), atol=0.01, rtol=0)


def test_hands_that_run_into_themselves_are_found():
    model = hand_model()
    angles = model.straight.expand(3, 5, 4).clone()
    angles[1, 1, 0], angles[1, 2, 0] = 0.6, -0.6  # the index finger crosses the middle one
    angles[2, 1:, 1:] = 2.4  # fingers through the palm
    assert run_into_each_other(model.joints(torch.zeros(3, model.shapes), angles)).tolist() == [False, True, True]


def test_the_forearm_closes_the_hand():
    model = hand_model()
    hand = model.posed(torch.zeros(1, model.shapes), model.straight[None])
    loop = hand.vertices[:, model.opening]
    arm = forearm(loop, hand.wrist, torch.tensor([0.1]), torch.tensor([1.2]), torch.zeros(1, 2))[0]
    whole = torch.cat([hand.vertices[0][model.faces], arm])
    corners = (whole * 1e6).round().long().view(-1, 3)
    number = corners.unique(dim=0, return_inverse=True)[1].view(-1, 3).tolist()
    edges = [(row[i], row[(i + 1) % 3]) for row in number for i in range(3)]
    assert len(set(edges)) == len(edges) and all((b, a) in set(edges) for a, b in edges)  # closed, and all outward
    volume = (whole[:, 0] * torch.linalg.cross(whole[:, 1], whole[:, 2])).sum() / 6
    assert 2.5e-4 < float(volume) < 7e-4  # cubic metres
    along = arm.view(-1, 3) - loop.mean(1)
    assert float((along @ -hand.wrist[0, :, 1]).max()) == pytest.approx(0.1, abs=0.03)
    turned = forearm(loop, hand.wrist, torch.tensor([0.1]), torch.tensor([1.2]), torch.tensor([[0.5, 0.0]]))[0]
    far, straight = turned[-1, 2] - loop.mean(1), arm[-1, 2] - loop.mean(1)
    assert float(torch.nn.functional.cosine_similarity(far, straight)) == pytest.approx(math.cos(0.5), abs=1e-4)


def test_views_keep_away_from_those_left_out():
    for left_out in (False, True):
        views, places = random_views(40, generator("view", left_out), left_out)
        for view, place in zip(views, places, strict=True):
            torch.testing.assert_close(view @ view.T, torch.eye(3), atol=1e-5, rtol=0)
            assert float(torch.linalg.det(view)) == pytest.approx(1, abs=1e-4)
            assert 0.3 <= float(place.norm()) <= 0.75 and float(place[2] / place.norm()) >= math.cos(math.radians(15.1))
            assert is_left_out(view.T @ -(place / place.norm())) == left_out
    assert is_left_out(torch.nn.functional.normalize(LEFT_OUT[0], dim=0)) and CONE < 1


def test_a_camera_may_look_along_the_arm():
    arm = torch.nn.functional.normalize(torch.tensor([0.2, 0.9, 0.1]), dim=0)
    for direction in (arm, -arm):
        view = facing(direction[None], arm, torch.zeros(1))[0]
        torch.testing.assert_close(view @ view.T, torch.eye(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(view @ -direction, torch.tensor([0.0, 0.0, 1.0]), atol=1e-6, rtol=0)


def test_poses_are_possible_for_the_shape_of_their_hand():
    shape = 2 * torch.randn(300, hand_model().shapes, generator=generator("shapes"))
    angles = possible_poses(shape, generator("poses"), held_out=False)
    assert not bool(run_into_each_other(hand_model().joints(shape, angles)).any())
    assert not bool(is_held_out(angles).any())
    others = run_into_each_other(hand_model().joints(shape.roll(1, 0), angles))
    assert bool(others.any())  # as is not so for every other shape


@pytest.mark.parametrize("lean", [0.0, 0.7])
def test_the_forearm_points_down_in_the_picture_but_for_the_lean(lean):
    for x, y in itertools.product((-0.5, 0.4), (0.3, -0.6)):
        direction = torch.nn.functional.normalize(torch.tensor([x, y, 0.7]), dim=0)
        arm = torch.nn.functional.normalize(torch.tensor([0.2, 0.9, 0.1]), dim=0)
        view = facing(direction[None], arm, torch.tensor([lean]))[0]
        torch.testing.assert_close(view @ -direction, torch.tensor([0.0, 0.0, 1.0]), atol=1e-6, rtol=0)
        down = (view @ arm)[:2]
        assert float(torch.atan2(down[0], down[1])) == pytest.approx(lean, abs=1e-5)
