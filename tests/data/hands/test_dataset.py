"""Generated hands as clouds."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from geo3d.data import Hands
from geo3d.data.hands import dataset
from geo3d.data.hands.dataset import NO_PART, aimed
from geo3d.data.hands.drawing import AWAY
from geo3d.data.hands.from_depth import cloud_of_depth
from geo3d.data.hands.model import hand_model
from geo3d.data.hands.pose import is_held_out
from geo3d.data.hands.skeleton import JOINTS, PARTS
from geo3d.data.hands.view import towards
from geo3d.data.targets import Classes, Joints
from geo3d.errors import ConfigError
from geo3d.seeds import generator
from geo3d.tasks.datamodule import DataModule

EXACT = {"lateral": 0, "flying": 0, "axial": 0, "steps": 0, "holes": 0}


def test_a_hand_depends_on_its_key_alone():
    one, again = Hands(size=5)[3], Hands(size=5)[3]
    assert all(torch.equal(one[name], again[name]) for name in one.keys())  # noqa: SIM118
    assert torch.equal(one.pos, Hands(size=5)[-2].pos)
    for other in (Hands(size=5, seed=1), Hands(size=5, split="test"), Hands(size=5, split="test", held_out="view")):
        assert not torch.equal(one.joints, other[3].joints)
    assert torch.equal(one.joints, Hands(size=5, held_out="pose")[3].joints)  # training never changes
    with pytest.raises(IndexError, match="outside of 5 generated hands"):
        Hands(size=5)[5]
    with pytest.raises(ConfigError, match="held_out"):
        Hands(held_out="shapes")


def test_fields_targets_and_manifest():
    hands = Hands(size=6)
    cloud = hands[2]
    assert cloud.joints.shape == (21, 3) and cloud.pos.dtype == torch.float32 and len(cloud.pos) == len(cloud.point_y)
    assert set(cloud.point_y.tolist()) <= set(range(NO_PART, len(PARTS)))
    assert hands.targets == {"joints": Joints(JOINTS), "point_y": Classes(PARTS, ignore=NO_PART)}
    assert hands.manifest()["held_out"] == "none" and len(JOINTS) == 21 and len(PARTS) == 16


def test_without_faults_points_lie_on_the_hand_that_is_seen():
    hands = Hands(size=6, **EXACT)
    for index in range(3):
        hand, cloud = hands.hand(index), hands[index]
        normal = torch.linalg.cross(hand.corner[:, 1] - hand.corner[:, 0], hand.corner[:, 2] - hand.corner[:, 0])
        normal = torch.nn.functional.normalize(normal, dim=1)
        for row in range(0, len(cloud.pos), 97):
            own = hand.label == cloud.point_y[row]
            plane = ((cloud.pos[row] - hand.corner[own][:, 0]) * normal[own]).sum(1).abs()
            near = (cloud.pos[row] - hand.corner[own].mean(1)).norm(dim=1) < 0.03
            assert float(plane[near].min()) < 2e-4
        towards_camera = (normal * -hand.corner.mean(1)).sum(1) > 0
        assert 0.3 < float(towards_camera.float().mean()) < 0.7


@pytest.mark.parametrize("fault", EXACT)
def test_each_kind_of_noise_has_its_switch(fault):
    exact, faulty = Hands(size=2, **EXACT)[1], Hands(size=2, **{**EXACT, fault: 1.0})[1]
    assert exact.pos.shape != faulty.pos.shape or not torch.equal(exact.pos, faulty.pos)
    torch.testing.assert_close(exact.joints, faulty.joints)


def test_hands_depend_on_their_number_alone(monkeypatch):
    hands, more = Hands(size=40), Hands(size=70)
    for index in (0, 31, 32, 39):
        assert torch.equal(hands[index].pos, more[index].pos)
    assert torch.equal(hands[-1].pos, hands[39].pos)
    fresh = Hands(size=40)
    assert torch.equal(fresh[np.int64(33)].pos, hands[33].pos) and torch.equal(fresh[34].pos, hands[34].pos)
    fresh.motion(5).place.zero_()
    assert torch.equal(fresh.hand(5).joints, hands.hand(5).joints)
    joints = torch.stack([more.hand(index).joints for index in range(70)])
    assert len(joints.flatten(1).unique(dim=0)) == 70
    monkeypatch.setattr(dataset, "KEPT", 1)  # what is forgotten is drawn again
    few = Hands(size=70)
    for index in (0, 69, 1, 40):
        assert torch.equal(few.hand(index).joints, joints[index])
        assert len(few._blocks) == 1


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_hands_do_not_depend_on_a_default_dtype_that_was_set_before_the_import(dtype):
    program = (
        f"import torch; torch.set_default_dtype(torch.{dtype}); from geo3d.data import Hands; "
        "cloud = Hands('test', size=2, held_out='view')[1]; print(cloud.pos.dtype, float(cloud.pos.double().sum()))"
    )
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    expected = Hands("test", size=2, held_out="view")[1].pos
    assert made[0] == "torch.float32" and float(made[1]) == pytest.approx(float(expected.double().sum()), rel=1e-9)


def test_train_and_test_may_differ_in_number():
    assert len(Hands(size=5, test_size=3)) == 5 and len(Hands("test", size=5, test_size=3)) == 3
    assert torch.equal(Hands("test", size=5, test_size=3)[1].pos, Hands("test", size=5)[1].pos)
    with pytest.raises(IndexError):
        Hands("test", size=5, test_size=3)[3]


def test_a_picture_shows_the_points_of_the_cloud():
    hands = Hands(size=4)
    for index in range(3):
        depth, camera, joints = hands.picture(index)
        cloud = hands[index]
        turn = torch.linalg.lstsq(cloud.joints, joints).solution  # the rotation between the two cameras
        torch.testing.assert_close(turn.mT @ turn, torch.eye(3), atol=1e-4, rtol=0)
        pos = cloud_of_depth(depth, camera, "picture")
        near = torch.cdist(cloud.pos @ turn, pos, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
        assert float(near.max()) < 1e-4 and len(pos) >= len(cloud.pos)
        assert float(joints[:, 2].min()) > 0.1 and depth.shape[0] < 200
    with pytest.raises(IndexError):
        hands.picture(4)


def test_points_lie_in_a_cube_around_the_hand():
    for index in range(8):
        cloud = Hands(size=8, cut=0.07, jitter=0.0, **EXACT)[index]
        middle = cloud.pos[cloud.point_y != NO_PART].mean(0)
        assert float((cloud.pos - middle).abs().max()) < 0.07 + 0.03  # the middle is that before the cut
        assert float((cloud.pos.amax(0) - cloud.pos.amin(0)).max()) <= 0.14 + 1e-6


def test_test_sets_have_what_training_leaves_out():
    count = 30
    draws = {name: Hands("test", count, held_out=name) for name in ("none", "shape", "view", "pose")}
    draws["train"] = Hands("train", count)
    for name, hands in draws.items():
        shapes = torch.stack([hands.motion(index).shape for index in range(count)])
        assert (shapes.abs() > AWAY).any(1).all() if name == "shape" else (shapes.abs() <= AWAY).all()
        patterns = torch.stack([hands.hand(index).angles for index in range(count)])
        assert bool((is_held_out(patterns) == (name == "pose")).all())


def test_a_camera_turned_to_a_place_has_it_ahead():
    for place in torch.randn(10, 3, generator=generator("places")).tolist():
        place = torch.tensor([*place[:2], abs(place[2]) + 0.1])
        torch.testing.assert_close(
            towards(place) @ place, torch.tensor([0.0, 0.0, float(place.norm())]), atol=1e-5, rtol=0
        )
    assert torch.equal(towards(torch.tensor([0.0, 0.0, 2.0])), torch.eye(3))


def test_a_picture_spans_what_it_shows():
    draw = generator("aimed")
    corner = torch.randn(30, 3, 3, generator=draw) * 0.05 + torch.tensor([0.2, -0.1, 0.6])
    look, slopes = aimed(corner, torch.tensor([0.25, -0.1, 0.6]), reach=2.0)
    seen = corner.view(-1, 3) @ look.mT
    assert float((seen[:, :2] / seen[:, 2:]).abs().max(0).values.max()) < 0.52 * max(slopes)
    _, small = aimed(corner, torch.tensor([0.25, -0.1, 0.6]), reach=0.1)
    assert max(small) <= 0.1 + 1e-6 < max(slopes)


def test_batches_keep_joints_and_their_way_back():
    data = DataModule(Hands, size=6, batch_size=3, num_points=200, holdout=0.0)
    batch = next(iter(data.loader("train", torch.arange(3))))
    assert batch.joints.shape == (3, 21, 3)
    source = Hands(size=6)
    for row in range(3):
        back = batch.frame[row]
        joints = batch.joints[row].double() @ back[:3, :3].T + back[:3, 3]
        torch.testing.assert_close(joints.float(), source[row].joints, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_the_default_dtype_does_not_matter(dtype):
    clips = []
    hand_model.cache_clear()
    for chosen in (dtype, torch.float32):
        torch.set_default_dtype(chosen)
        try:
            hands = Hands(size=3)
            clips.append([hands[1], *hands.clip(2, 2), Hands(size=3, view="pair")[0]])
        finally:
            torch.set_default_dtype(torch.float32)
    hand_model.cache_clear()
    for one, other in zip(*clips, strict=True):
        assert one.pos.dtype == torch.float32 and torch.equal(one.pos, other.pos)
        assert torch.equal(one.joints, other.joints)


def test_a_clip_has_a_frame_or_more():
    with pytest.raises(ConfigError, match="frames"):
        Hands(size=3).clip(0, 0)
    assert len(Hands(size=3).clip(0, 1)) == 1
