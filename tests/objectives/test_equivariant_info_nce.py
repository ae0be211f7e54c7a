"""Equivariant contrast: its formula, what it follows and what it forgets, and its task."""

import math

import pytest
import torch
from torch import nn

from geo3d.cloud import Features
from geo3d.encoders import DGCNN
from geo3d.errors import ConfigError
from geo3d.geometry.rotation import random_rotations
from geo3d.invariance import SO3, Compose, Drop, Jitter, Reflection, Scale, Translation
from geo3d.invariance.views import Views
from geo3d.objectives import EquivariantInfoNCE, InfoNCE
from geo3d.objectives.equivariant_info_nce import similar_poses, undone, weighted_info_nce
from geo3d.objectives.info_nce import info_nce
from geo3d.objectives.objective import Motions
from geo3d.seeds import generator
from geo3d.tasks.given import followed, motions_of
from geo3d.tasks.pretrain import Pretrain
from geo3d.testing import tiny_batch

B, D = 5, 9


def motions(key, clouds=B):
    draw = generator("motions", key)
    motion = torch.eye(4, dtype=torch.float64).repeat(clouds, 1, 1)
    scale = 0.5 + torch.rand(clouds, 1, 1, generator=draw, dtype=torch.float64)
    motion[:, :3, :3] = scale * random_rotations(clouds, draw, torch.float64)
    motion[:, :3, 3] = torch.randn(clouds, 3, generator=draw, dtype=torch.float64)
    return motion


def moved(embedding, motion):
    points = embedding.unflatten(1, (-1, 3))
    return (points @ motion[:, :3, :3].mT + motion[:, None, :3, 3]).flatten(1)


def embeddings(key, views=2):
    return list(torch.randn(views, B, D, generator=generator("embeddings", key), dtype=torch.float64))


def test_motions_are_undone():
    z, motion = embeddings(0)[0], motions(0)
    torch.testing.assert_close(undone(moved(z, motion), motion), z)
    wider = torch.cat([moved(z, motion), z[:, :2]], 1)
    torch.testing.assert_close(undone(wider, motion), z)


@pytest.mark.parametrize("similar", [0.0, 0.7])
def test_formula(similar):
    views, given = embeddings(1, views=3), Motions([motions(i) for i in range(3)], None)
    joints = torch.randn(B, 4, 3, generator=generator("joints"), dtype=torch.float64)
    loss, terms = EquivariantInfoNCE(0.3, similar)(views, given=given._replace(joints=joints))
    points = [undone(v, m) for v, m in zip(views, given.motions, strict=True)]
    z = [row / row.norm() for view in points for row in view]
    expected = 0.0
    for a in range(3 * B):
        total = sum(math.exp(float(z[a] @ z[c]) / 0.3) for c in range(3 * B) if c != a)
        weights, terms_of = 0.0, 0.0
        for c in range(3 * B):
            squared = float((joints[a % B] - joints[c % B]).square().sum()) / 4
            same = math.exp(-squared / (2 * similar**2)) if similar else float(a % B == c % B)
            if c != a:
                weights += same
                terms_of -= same * (float(z[a] @ z[c]) / 0.3 - math.log(total))
        expected += terms_of / weights / (3 * B)
    assert float(loss) == pytest.approx(expected, rel=1e-9)
    assert -1 <= float(terms["positive_similarity"]) <= 1


def test_without_motion_and_similar_poses_it_is_info_nce():
    views = embeddings(2)
    still = Motions([torch.eye(4, dtype=torch.float64).repeat(B, 1, 1)] * 2, None)
    loss = EquivariantInfoNCE(0.2)(views, given=still)[0]
    torch.testing.assert_close(loss, InfoNCE(0.2)(views)[0])
    torch.testing.assert_close(weighted_info_nce(views, torch.eye(B), 0.2), info_nce(views, 0.2))


def test_it_follows_motions_that_an_invariant_objective_does_not():
    """Embeddings that move with the clouds have the loss of embeddings that never moved."""
    views, given = embeddings(3), Motions([motions(7), motions(8)], None)
    still = Motions([torch.eye(4, dtype=torch.float64).repeat(B, 1, 1)] * 2, None)
    carried = [moved(v, m) for v, m in zip(views, given.motions, strict=True)]
    objective = EquivariantInfoNCE(0.2)
    torch.testing.assert_close(objective(carried, given=given)[0], objective(views, given=still)[0])
    assert abs(float(InfoNCE(0.2)(carried)[0] - InfoNCE(0.2)(views)[0])) > 0.05
    assert abs(float(objective(views, given=given)[0] - objective(views, given=still)[0])) > 0.05


def test_similar_poses_are_weighted_by_their_distance():
    joints = torch.zeros(2, 3, 3)
    joints[1] = torch.tensor([0.3, 0.0, 0.4])
    assert similar_poses(joints, 0.5)[0, 1].item() == pytest.approx(math.exp(-0.5))
    assert torch.equal(similar_poses(joints, 0), torch.eye(2))


@pytest.mark.parametrize("parts", [[SO3()], [Scale(0.5, 2.0), SO3(), Translation(0.3)], [Reflection("x"), SO3()]])
def test_what_views_do_to_clouds_is_found(parts):
    batch = tiny_batch()
    views = Views(Compose(parts), num_views=2)(followed(batch), "found")
    given = motions_of(views, batch)
    for view, motion in zip(views, given.motions, strict=True):
        for cloud in range(len(batch.ptr) - 1):
            mine = slice(int(batch.ptr[cloud]), int(batch.ptr[cloud + 1]))
            there = batch.pos[mine] @ motion[cloud, :3, :3].T + motion[cloud, :3, 3]
            torch.testing.assert_close(there, view.batch.pos[mine], atol=1e-5, rtol=1e-5)
    assert given.joints is None


def pretraining(objective, parts):
    encoder = DGCNN(k=4, channels=(8, 8), embedding=16)
    return Pretrain(encoder, objective, Views(Compose(parts)), projector=(16, 9))


def test_views_must_draw_what_it_follows():
    with pytest.raises(
        ConfigError,
        match="needs views that differ by SO3; the invariance draws .*give other names in objective.follows",
    ):
        pretraining(EquivariantInfoNCE(), [Scale(), Jitter()])
    with pytest.raises(ConfigError, match="declares Turn, which geo3d.invariance does not have"):
        pretraining(EquivariantInfoNCE(follows=("Turn",)), [SO3()])
    assert pretraining(EquivariantInfoNCE(), [SO3(), Scale(), Translation(), Drop()]).objective.equivariant_to


def test_missing_joints_and_narrow_embeddings_are_refused():
    still = Motions([torch.eye(4).repeat(B, 1, 1)] * 2, None)
    with pytest.raises(ConfigError, match="objective.similar"):
        EquivariantInfoNCE(similar=0.5)([torch.randn(B, 9)] * 2, given=still)
    with pytest.raises(ConfigError, match="3 columns"):
        EquivariantInfoNCE()([torch.randn(B, 2)] * 2, given=still)


def test_of_a_stretch_only_the_nearest_motion_is_undone():
    z, motion = embeddings(5)[0], motions(5)
    stretch = torch.diag(torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64))
    bent = motion.clone()
    bent[:, :3, :3] = motion[:, :3, :3] @ stretch
    expected = (z.unflatten(1, (-1, 3)) @ stretch).flatten(1)
    torch.testing.assert_close(undone(moved(z, bent), bent), expected)


class Corners(nn.Module):
    """An encoder that moves with the cloud: its features are the places of three points."""

    cloud_channels, in_channels, level_channels, point_channels = 9, 3, (3,), 3

    def forward(self, batch):
        rows = batch.ptr[:-1, None] + torch.arange(3)
        return Features(batch.pos, batch.pos[rows].flatten(1))


@pytest.mark.parametrize("normalize", ["none", "unit_sphere", "oriented_box"])
def test_an_encoder_that_moves_with_the_cloud_has_nothing_to_learn(normalize):
    logged = {}
    for objective in (EquivariantInfoNCE(0.2), InfoNCE(0.2)):
        parts = Compose([SO3(), Scale(0.5, 2.0), Translation(0.3)])
        task = Pretrain(Corners(), objective, Views(parts, normalize=normalize), projector=(9, 9))
        task.projector, task.log = nn.Identity(), lambda *words, **keywords: None
        task.training_step(tiny_batch(), 0)
        logged[type(objective).__name__] = task.last["positive_similarity"]
    assert logged["EquivariantInfoNCE"] == pytest.approx(1, abs=1e-4)
    assert logged["InfoNCE"] < 0.9


def test_motions_are_told_from_the_normalised_clouds(monkeypatch):
    """From far-off coordinates, an embedding would have to know where the cloud was."""
    seen = []
    objective = EquivariantInfoNCE(0.2)
    forward = objective.loss_given
    monkeypatch.setattr(objective, "loss_given", lambda *words: seen.append(words[2]) or forward(*words))
    task = Pretrain(Corners(), objective, Views(Compose([SO3()]), normalize="unit_sphere"), projector=(9, 9))
    task.log = lambda *words, **keywords: None
    batch = tiny_batch()
    batch.pos = 3 * batch.pos + 100
    task.training_step(batch, 0)
    for motion in seen[0].motions:
        assert float(motion[:, :3, 3].abs().max()) < 0.5
        torch.testing.assert_close(torch.linalg.det(motion[:, :3, :3]), torch.ones(len(motion)), atol=0.3, rtol=0)
