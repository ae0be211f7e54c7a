import math

import numpy as np
import pytest
import torch

from geo3d.geometry.rotation import random_rotations
from geo3d.pose_metrics import aligned, area_under_success, bone_lengths, joint_distances, success
from geo3d.seeds import generator


def poses(frames=7, joints=9, key="a"):
    return torch.randn(frames, joints, 3, generator=generator("poses", key), dtype=torch.float64)


def test_success_counts_errors_up_to_and_with_the_threshold():
    errors = torch.tensor([[5.0, 10.0], [10.0, 30.0]])
    assert success(errors, [4.999, 5.0, 10.0, 29.0, 30.0]).tolist() == [0.0, 0.25, 0.75, 0.75, 1.0]


def test_the_area_is_the_mean_over_101_thresholds():
    errors = 60 * torch.rand(500, generator=generator("errors"))
    slow = np.mean([(errors.double().numpy() <= t / 2).mean() for t in range(101)])
    assert float(area_under_success(errors)) == pytest.approx(slow, abs=1e-12)
    assert float(area_under_success(torch.tensor([49.9]))) == pytest.approx(1 / 101)


def test_a_similarity_is_undone():
    truth = poses()
    turn = random_rotations(7, generator("turn"), torch.float64)
    scale = torch.linspace(0.2, 3, 7, dtype=torch.float64)[:, None, None]
    moved = scale * truth @ turn + 10 * poses(joints=1, key="shift")
    assert float(joint_distances(moved, truth).min()) > 0.5
    torch.testing.assert_close(aligned(moved, truth), truth, rtol=1e-9, atol=1e-9)


def test_a_mirrored_hand_stays_mirrored():
    truth = poses()
    mirrored = truth * torch.tensor([-1.0, 1.0, 1.0])
    assert float(joint_distances(aligned(mirrored, truth), truth).mean()) > 0.3


def test_no_other_similarity_fits_better():
    truth, found = poses(), poses(key="b")
    best = joint_distances(aligned(found, truth), truth).square().sum(1)
    middle = truth.mean(1, keepdim=True)
    centred = found - found.mean(1, keepdim=True)
    for number in range(200):
        draw = generator("tries", number)
        turn, scale = random_rotations(7, draw, torch.float64), 2 * torch.rand(7, 1, 1, generator=draw).double()
        other = joint_distances(scale * centred @ turn + middle, truth).square().sum(1)
        assert bool((other >= best - 1e-9).all())


def test_joints_that_coincide_are_moved_to_the_middle():
    truth = poses()
    found = aligned(torch.ones(7, 9, 3), truth)
    torch.testing.assert_close(found, truth.mean(1, keepdim=True).expand(-1, 9, -1))


def test_bones_without_a_pair_and_with_one():
    joints = torch.tensor([[[0.0, 0, 0], [3, 4, 0], [3, 4, 12]]])
    assert bone_lengths(joints, [(0, 1), (1, 2), (0, 2)]).tolist() == [[5.0, 12.0, 13.0]]
    assert bone_lengths(joints, []).shape == (1, 0) and not math.isnan(float(success(joints[:0], [1.0])))
