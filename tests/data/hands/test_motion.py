"""Moving hands: smooth, possible, the same for the same key, and where each place goes."""

import math

import pytest
import torch

from geo3d.data import Hands
from geo3d.data.hands.dataset import NO_PART
from geo3d.data.hands.model import hand_model
from geo3d.data.hands.motion import carried
from geo3d.data.hands.pose import is_held_out
from geo3d.data.hands.touching import run_into_each_other
from geo3d.data.hands.view import is_left_out
from geo3d.geometry.rotation import random_rotations
from geo3d.invariance.views import only_view
from geo3d.seeds import generator
from geo3d.tasks.datamodule import DataModule

EXACT = {"lateral": 0, "flying": 0, "axial": 0, "steps": 0, "holes": 0}
TIMES = [number / 10 for number in range(11)]


def test_a_motion_begins_with_the_hand_itself_and_is_smooth():
    hands = Hands(size=6)
    for index in range(3):
        motion = hands.motion(index)
        assert torch.equal(motion.at(0.0).joints, hands.hand(index).joints)
        joints = torch.stack([motion.at(time).joints for time in TIMES])
        steps = joints.diff(dim=0).norm(dim=2)
        assert float(steps.max()) < 0.04 and float((joints[-1] - joints[0]).norm(dim=1).mean()) > 0.005
        assert float(steps[0].mean()) < 0.3 * float(steps[5].mean())  # it starts gently
        assert torch.equal(motion.at(0.7).joints, hands.motion(index).at(0.7).joints)


@pytest.mark.parametrize("test", ["none", "view", "pose"])
def test_on_the_way_hands_stay_possible_and_of_their_kind(test):
    hands = Hands("test", 12, held_out=test)
    still = 0
    for index in range(6):
        motion = hands.motion(index)
        moments = [motion.at(time) for time in (0.2, 0.4, 0.6, 0.8, 1.0)]
        joints = torch.stack([moment.joints for moment in moments])
        assert not bool(run_into_each_other(joints).any())
        still += torch.equal(motion.last, motion.angles)
        if test == "none":
            assert not bool(is_held_out(torch.stack([moment.angles for moment in moments])).any())
        done = motion.at(1.0)
        assert torch.allclose(done.angles, motion.last, atol=1e-6)
        ahead = torch.nn.functional.normalize(motion.place + motion.drift, dim=0)
        assert is_left_out(motion.view.T @ -torch.nn.functional.normalize(motion.place, dim=0)) == (test == "view")
        assert float(ahead[2]) > 0.8
    assert still < 4


def test_fingers_do_not_run_into_each_other_on_the_way():
    hands = Hands(size=80)
    for motion in map(hands.motion, range(80)):
        angles = torch.stack([_angles(motion, time / 12) for time in range(1, 13)])
        joints = hand_model().joints(motion.shape.expand(12, -1), angles)
        assert not bool(run_into_each_other(joints).any())


def test_training_shows_no_held_out_pose_between_the_moments_that_are_checked():
    hands, times = Hands(size=100), torch.linspace(0, 1, 97).tolist()
    for motion in map(hands.motion, range(100)):
        assert not bool(is_held_out(torch.stack([_angles(motion, time) for time in times])).any())


def _angles(motion, time):
    return motion.angles + (1 - math.cos(math.pi * time)) / 2 * (motion.last - motion.angles)


def test_places_are_carried_by_rigid_motions():
    draw = generator("carried")
    before = torch.randn(20, 3, 3, generator=draw, dtype=torch.float64)
    turn = random_rotations(1, draw, torch.float64)[0]
    after = before @ turn.T + 0.3
    face = torch.randint(20, (50,), generator=draw)
    pos = torch.randn(50, 3, generator=draw, dtype=torch.float64)
    torch.testing.assert_close(carried(pos, face, before, after), pos @ turn.T + 0.3)


def test_the_flow_leads_to_the_same_place_of_the_skin():
    hands = Hands(size=6, **EXACT)
    motion, clip = hands.motion(1), hands.clip(1, 4)
    assert len(clip) == 4 and float(clip[-1].flow.abs().max()) < 1e-6
    for frame in range(3):
        here, there = (motion.at(number / 3) for number in (frame, frame + 1))
        skin = clip[frame]
        for row in range(0, len(skin.pos), 211):
            near = (here.corner - skin.pos[row]).norm(dim=2)
            face, vertex = divmod(int(near.argmin()), 3)
            moved = there.corner[face, vertex] - here.corner[face, vertex]
            assert float((skin.flow[row] - moved).norm()) < 0.006  # vertices beside it move almost alike
        own = skin.point_y != NO_PART
        assert float(skin.flow[own].norm(dim=1).mean()) < 0.1
    assert torch.equal(clip[2].joints, motion.at(2 / 3).joints)


def test_a_pair_shows_two_moments():
    hands = Hands(size=6, view="pair", apart=0.3)
    cloud, again = hands[4], Hands(size=6, view="pair", apart=0.3)[4]
    assert torch.equal(cloud.pos, again.pos) and cloud.view_id.unique().tolist() == [0, 1]
    data = DataModule(Hands, size=4, view="pair", batch_size=2, num_points=100, holdout=0.0)
    batch = next(iter(data.train_dataloader()))
    first, second = (only_view(batch, number) for number in (0, 1))
    assert len(first.pos) + len(second.pos) == len(batch.pos) and len(first.pos) > 50
    assert hands.manifest()["view"] == "pair" and hands.manifest()["apart"] == 0.3


def test_the_second_view_of_a_pair_is_the_later_moment():
    hands = Hands(size=6, view="pair", apart=1.0, **EXACT)
    for index in range(3):
        cloud, motion = hands[index], hands.motion(index)
        for number in (0, 1):
            pos = cloud.pos[cloud.view_id == number]
            near = [
                float(torch.cdist(pos, motion.at(time).corner.mean(1)).amin(1).mean()) for time in (number, 1 - number)
            ]
            assert near[0] < 0.004 and near[0] < near[1]


def test_clips_have_new_noise_in_each_frame():
    clip = Hands(size=3).clip(0, 2)
    assert clip[0].pos.shape != clip[1].pos.shape or not torch.equal(clip[0].pos, clip[1].pos)
    with pytest.raises(IndexError, match="outside of 3"):
        Hands(size=3).clip(3)
