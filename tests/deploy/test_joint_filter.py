"""The Kalman filter of joints: against its equations written out, and what it does to still and moving hands."""

import numpy as np
import torch

from geo3d.deploy.joint_filter import JointFilter
from geo3d.heads.prediction import Prediction
from geo3d.seeds import generator

SURE = torch.ones(21, dtype=torch.float64)


def frame(joints, std):
    return Prediction(joints, std, torch.tensor(1))


def drawn(frames, key):
    draw = generator(key)
    joints = torch.randn(frames, 21, 3, generator=draw, dtype=torch.float64)
    return joints, 0.1 + torch.rand(frames, 21, generator=draw, dtype=torch.float64)


def test_the_equations():
    joints, std = drawn(6, "filter")
    moves, filtered = 0.3, JointFilter(0.3)
    got = [filtered(frame(a, b), torch.zeros(3)) for a, b in zip(joints, std, strict=True)]
    for joint in range(21):
        for axis in range(3):
            x, p = joints[0, joint, axis].item(), std[0, joint].item() ** 2
            for k in range(1, 6):
                p = p + moves**2
                gain = p / (p + std[k, joint].item() ** 2)
                x, p = x + gain * (joints[k, joint, axis].item() - x), (1 - gain) * p
                np.testing.assert_allclose(got[k].joints[joint, axis].item(), x, rtol=1e-12)
    assert all(torch.equal(one.std, own) for one, own in zip(got, std, strict=True))


def test_a_still_hand_becomes_steady_and_more_exact():
    truth, noise = drawn(1, "hand")[0][0], drawn(200, "noise")[0]
    filtered = JointFilter(0.05)
    got = torch.stack([filtered(frame(truth + each, SURE), torch.zeros(3)).joints for each in noise])
    assert float((got[100:] - truth).square().mean()) < 0.1 * float(noise[100:].square().mean())


def test_the_motion_of_the_whole_hand_is_followed_without_delay():
    hand, filtered = drawn(1, "hand")[0][0], JointFilter(1e-3)
    for k in range(5):
        center = torch.full((3,), 2.0 * k)
        made = filtered(frame(hand + center, SURE), center)
        torch.testing.assert_close(made.joints, hand + center)


def test_after_a_reset_a_frame_is_the_first_one():
    (first, second), std = drawn(2, "two")
    filtered = JointFilter(0.01)
    filtered(frame(first, std[0]), torch.zeros(3))
    filtered.reset()
    assert torch.equal(filtered(frame(second, std[1]), torch.zeros(3)).joints, second)
