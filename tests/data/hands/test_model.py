"""The skinned hand against what is known of the asset, and against a plain slow form."""

import math

import pytest
import torch

from geo3d.data.hands.model import HandModel, degrees, hand_model
from geo3d.data.hands.skeleton import BONES, JOINTS, PARTS, TIPS
from geo3d.seeds import generator

PALM_SIDE = torch.tensor([0.78, 0.04, -0.63])


@pytest.fixture(scope="module")
def model() -> HandModel:
    return hand_model()


def at_rest(model, count=1):
    return torch.zeros(count, model.shapes), model.straight.expand(count, 5, 4).clone()


def bent(model, finger, joint, angle):
    """How the joints move when one angle changes, in mm."""
    shape, angles = at_rest(model)
    before = model.posed(shape, angles).joints[0]
    angles[0, finger, joint] += math.radians(angle)
    return 1000 * (model.posed(shape, angles).joints[0] - before)


def test_the_rest_pose_is_the_template(model):
    hand = model.posed(*at_rest(model))
    assert float((hand.vertices[0] - model.vertices).abs().max()) < 1e-7
    assert float(hand.joints[0, 0].norm()) < 1e-3  # the wrist
    torch.testing.assert_close(hand.joints[0, 4::4], model.vertices[list(TIPS)], atol=1e-7, rtol=0)


def test_the_rest_pose_is_not_flat(model):
    degrees_of = model.straight * 180 / math.pi
    torch.testing.assert_close(degrees_of[1:, 1], torch.tensor([15.8, 20.9, 23.1, 21.1]), atol=0.06, rtol=0)
    torch.testing.assert_close(degrees_of[1:, 2], torch.tensor([12.6, 5.9, 7.5, 10.1]), atol=0.06, rtol=0)
    torch.testing.assert_close(degrees_of[1:, 3], torch.tensor([6.8, 7.2, 6.5, -1.0]), atol=0.06, rtol=0)
    torch.testing.assert_close(degrees_of[1:, 0], torch.tensor([5.6, 3.1, 14.4, 3.9]), atol=0.06, rtol=0)
    torch.testing.assert_close(degrees_of[0], torch.tensor([0.0, 0.0, 8.8, 15.5]), atol=0.06, rtol=0)


def test_fingers_bend_towards_the_palm(model):
    moved = bent(model, 1, 1, 45)
    torch.testing.assert_close(moved[JOINTS.index("index_dip")], torch.tensor([24.8, 27.5, -12.7]), atol=0.06, rtol=0)
    assert bool((moved[:6].abs() < 1e-3).all())  # the thumb, the wrist and the joint itself stay
    for finger in range(1, 5):
        assert float(bent(model, finger, 1, 60)[4 * finger + 4] @ PALM_SIDE) > 20


def test_the_thumb_opposes_with_a_negative_spread(model):
    backwards = bent(model, 0, 0, 30)[4]
    assert float(backwards @ PALM_SIDE) == pytest.approx(-43.1, abs=0.2)
    assert float(bent(model, 0, 2, 30)[4].norm()) == pytest.approx(35.5, abs=0.2)


def test_straight_fingers_are_straight(model):
    shape, angles = at_rest(model)
    angles[:, 1:, 1:] = 0.0
    joints = model.posed(shape, angles).joints[0]
    for finger in range(1, 5):
        first, second = joints[4 * finger + 2] - joints[4 * finger + 1], joints[4 * finger + 3] - joints[4 * finger + 2]
        cosine = torch.nn.functional.cosine_similarity(first, second, 0)
        assert float(cosine) > math.cos(math.radians(6))  # the model's bones are a little askew sideways


def test_bones_keep_their_lengths_in_every_pose(model):
    draw = generator("bones")
    shape = torch.randn(1, model.shapes, generator=draw).expand(20, -1)
    joints = model.joints(shape, torch.rand(20, 5, 4, generator=draw))
    start, stop = (joints[:, [bone[end] for bone in BONES]] for end in (0, 1))
    lengths = (stop - start).norm(dim=2)
    torch.testing.assert_close(lengths, lengths[:1].expand(20, -1), atol=1e-6, rtol=0)
    assert not torch.allclose(lengths[0], model.joints(shape[:1] * 0, torch.zeros(1, 5, 4)).diff(dim=1).norm(dim=2)[0])


def test_joints_alone_are_those_of_the_posed_hand_but_for_soft_tips(model):
    draw = generator("joints")
    shape, angles = torch.randn(6, model.shapes, generator=draw), 0.8 * torch.rand(6, 5, 4, generator=draw)
    away = (model.joints(shape, angles) - model.posed(shape, angles).joints).norm(dim=2)
    tips = [4, 8, 12, 16, 20]
    assert float(away[:, tips].max()) < 2e-3
    away[:, tips] = 0
    assert float(away.max()) < 1e-6


def test_skinning_is_the_weighted_mean_of_rigid_motions(model):
    draw = generator("skin")
    shape, angles = torch.randn(2, model.shapes, generator=draw), 0.8 * torch.rand(2, 5, 4, generator=draw)
    at_rest = model._origins(shape)
    turn, origin = model.rest.repeat(2, 1, 1, 1), at_rest.clone()
    turn[:, model.bones], origin[:, model.bones] = model._bones(at_rest, angles)
    vertices = model.posed(shape, angles).vertices
    for hand in range(2):
        rest = model.vertices + (shape[hand] @ model.vertex_shape).view(-1, 3)
        before = model.origins + (shape[hand] @ model.origin_shape).view(-1, 3)
        for vertex in (0, 29, 413, 1200):
            expected = sum(
                float(weight)
                * (turn[hand, bone] @ model.rest[bone].T @ (rest[vertex] - before[bone]) + origin[hand, bone])
                for bone, weight in enumerate(model.weights[vertex])
            )
            torch.testing.assert_close(vertices[hand, vertex], expected, atol=1e-6, rtol=0)


def test_parts_and_opening(model):
    assert model.parts.unique().tolist() == list(range(len(PARTS)))
    assert len(model.opening) == 20 and len(model.opening.unique()) == 20
    middle = 1000 * model.vertices[model.opening].mean(0)
    torch.testing.assert_close(middle, torch.tensor([-1.6, -2.9, -1.0]), atol=0.06, rtol=0)
    assert float(degrees(90.0)) == pytest.approx(math.pi / 2)
