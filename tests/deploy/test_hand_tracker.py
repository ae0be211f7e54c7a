"""Hands followed through frames: where the cube is, with what the refinement begins, and what is said of bad frames."""

import pytest
import torch

from geo3d.checkpoint import open_checkpoint, save_encoder
from geo3d.cli.__main__ import main
from geo3d.data import Hands
from geo3d.data.hands.from_depth import Camera, cloud_of_depth, cropped, nearest_mass
from geo3d.deploy.hand_tracker import HandTracker, hand_joints
from geo3d.deploy.program.program import Program
from geo3d.deploy.program.refiner import RefinerProgram
from geo3d.encoders import PointNet2
from geo3d.errors import CheckpointError, CloudError, ConfigError

SMALL = ["encoder=pointnet2", "encoder.num_samples=[32,8]", "encoder.width=0.1", "data.num_points=128", "data.size=16",
         "trainer=cpu", "trainer.progress=false", "trainer.max_steps=3", "data.batch_size=4"]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pose")
    for head in ("joint_refiner", "joint_regressor"):
        main(["finetune", "task=hand_pose", "data=hands", f"head={head}", *SMALL, f"out={folder / head}"])
    return folder


@pytest.fixture(scope="module")
def clip():
    return [cloud.pos for cloud in Hands(size=3).clip(0, frames=4)]


def test_the_cube_follows_the_hand(runs, clip):
    tracker = HandTracker(runs / "joint_regressor")
    predictions = [tracker.cloud(pos) for pos in clip]
    assert predictions[0].joints.shape == (21, 3) and predictions[0].std.shape == (21,) and len(tracker.names) == 21
    assert torch.equal(tracker.last, predictions[-1].joints)
    tracker.reset()
    again = tracker.cloud(clip[0])
    assert torch.equal(again.joints, predictions[0].joints)
    far = clip[1] + torch.tensor([0.0, 0.0, 1.0])
    with pytest.raises(CloudError, match=r"frame: no point within 0.125 m"):
        tracker.cloud(far)
    assert tracker.last is None  # so that the hand is looked for anew
    assert float(tracker.cloud(far).joints[:, 2].mean()) > 1.0


def test_joints_are_combined_with_those_of_the_frames_before(runs, clip):
    filtered, plain = HandTracker(runs / "joint_regressor"), HandTracker(runs / "joint_regressor", moves=None)
    assert torch.equal(filtered.cloud(clip[0]).joints, plain.cloud(clip[0]).joints)
    between, alone = filtered.cloud(clip[1]), plain.cloud(clip[1])
    assert torch.equal(between.std, alone.std)
    assert float((between.joints - alone.joints).norm(dim=1).mean()) > 1e-4
    filtered.reset()
    assert torch.equal(filtered.cloud(clip[0]).joints, HandTracker(runs / "joint_regressor").cloud(clip[0]).joints)


def test_a_picture_gives_what_its_points_give(runs):
    depth, camera, _ = Hands(size=3).picture(1)
    one, other = (HandTracker(runs / "joint_refiner", exit_below=0.5) for _ in range(2))
    assert one.head.exit_below == 0.5 and isinstance(one._joints, RefinerProgram)
    torch.testing.assert_close(
        one.depth(depth, camera).joints, other.cloud(cloud_of_depth(depth, camera, "frame")).joints
    )
    with pytest.raises(CloudError, match="all 4 depths are 0"):
        one.depth(torch.zeros(2, 2), Camera(1.0, 1.0, 0.0, 0.0))
    assert one.last is None


def test_a_rounded_chain_runs_compiled_and_finds_the_same_joints(tmp_path, clip):
    small = ["encoder=dgcnn", "encoder.k=4", "encoder.channels=[8,8]", "encoder.embedding=16", "recipe=w8a8"]
    words = [word for word in SMALL if not word.startswith("encoder")]
    main(["finetune", "task=hand_pose", "data=hands", *small, *words, f"out={tmp_path / 'run'}"])
    tracker, opened = HandTracker(tmp_path / "run"), open_checkpoint(tmp_path / "run")
    assert isinstance(tracker.encoder, Program)
    made, pos = tracker.cloud(clip[0]), clip[0]
    near = pos[cropped(pos, nearest_mass(pos), tracker.cut, "frame")]
    plain = hand_joints(opened.encoder, opened.head, opened.card, near, "frame")
    torch.testing.assert_close(made.joints, plain.joints, atol=1e-4, rtol=0)


@pytest.mark.parametrize("bad", [torch.empty(0, 3), torch.full((9, 3), torch.nan), torch.zeros(9, 2), torch.zeros(9)])
def test_bad_frames_are_one_line_and_end_the_sequence(runs, clip, bad):
    tracker = HandTracker(runs / "joint_refiner")
    tracker.cloud(clip[0])
    with pytest.raises(CloudError, match="^frame: .*[^\n]$"):
        tracker.cloud(bad)
    assert tracker.last is None
    with pytest.raises(CloudError, match="found 1 point, which is too few"):
        tracker.cloud(clip[0][:1])


def test_a_sure_network_makes_one_estimate(runs, clip):
    tracker = HandTracker(runs / "joint_refiner", exit_below=1.0)
    first, second = (tracker.cloud(pos) for pos in clip[:2])
    assert int(first.steps) == 1 and int(second.steps) == 1 and not torch.equal(first.joints, second.joints)


def test_a_budget_is_kept_or_refused(runs, clip):
    slow = HandTracker(runs / "joint_refiner", budget_ms=60_000)
    plain = HandTracker(runs / "joint_refiner")
    torch.testing.assert_close(slow.cloud(clip[0]).joints, plain.cloud(clip[0]).joints, atol=1e-4, rtol=0)
    with pytest.raises(ConfigError, match="no setting keeps"):
        HandTracker(runs / "joint_refiner", budget_ms=1e-6)


def test_what_does_not_fit_is_refused(runs, tmp_path):
    with pytest.raises(ConfigError, match="steps: a JointRegressor does not refine; leave it out"):
        HandTracker(runs / "joint_regressor", steps=2)
    with pytest.raises(ConfigError, match="moves"):
        HandTracker(runs / "joint_regressor", moves=-1.0)
    save_encoder(PointNet2(num_samples=(16, 4), width=0.1), tmp_path / "plain")
    with pytest.raises(CheckpointError, match="finds no joints"):
        HandTracker(tmp_path / "plain")
    with pytest.raises(ConfigError, match="cut"):
        HandTracker(runs / "joint_refiner", cut=7.0)
