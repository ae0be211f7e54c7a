from functools import partial

import pytest
import torch

from geo3d import objectives
from geo3d.cloud import make_batch
from geo3d.decoders import Upcast
from geo3d.encoders import DGCNN, PointNet2
from geo3d.errors import CloudError, ConfigError
from geo3d.invariance import SO3, Compose, Jitter
from geo3d.invariance.views import Views
from geo3d.seeds import generator, seeded
from geo3d.tasks.given import centers_of, drawn_points, hidden_of, matching_rows
from geo3d.tasks.pretrain import Pretrain
from geo3d.testing import tiny_batch

LEVELS = {"num_samples": (20, 8, 4), "radii": (0.3, 0.6, 0.9), "num_neighbors": (8, 8, 8)}


def encoder():
    with seeded(0, "given"):
        return PointNet2(**LEVELS, channels=((8,), (8,), (12,))).eval()


def scenes(sizes=(60, 45)):
    pos = torch.rand(sum(sizes), 3, generator=generator("scenes"))
    return make_batch(pos, ptr=torch.tensor([0, sizes[0], sum(sizes)]), rgb=pos.flip(1))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_centers_are_the_points_where_a_level_lies(level):
    batch = scenes()
    features = encoder()(batch)
    rows = centers_of(features, level)
    assert torch.equal(batch.pos[rows], features.levels[level].pos)
    assert torch.equal(batch.batch[rows].bincount(), features.levels[level].layout.ptr.diff())


def test_coarse_levels_compare_centres_with_the_nearest_centres():
    batch, net = scenes(), encoder()
    views = Views(Jitter(0.01, 0.02), num_points=50)(batch, "given")
    features = [net(view.batch) for view in views]
    a, b = matching_rows(views, features, batch.pos, 40, 0.25, 2, generator("pairs"))
    centers = [centers_of(each, 2) for each in features]
    assert set(a.tolist()) <= set(centers[0].tolist()) and set(b.tolist()) <= set(centers[1].tolist())
    where = [batch.pos[view.batch.point_id[row]] for view, row in zip(views, (a, b), strict=True)]
    clouds = [view.batch.batch[row] for view, row in zip(views, (a, b), strict=True)]
    assert torch.equal(*clouds) and float((where[0] - where[1]).norm(dim=1).amax()) <= 0.25
    others = batch.pos[views[1].batch.point_id[centers[1]]]
    of_others = views[1].batch.batch[centers[1]]
    for i, cloud in enumerate(clouds[0].tolist()):
        near = (others[of_others == cloud] - where[0][i]).norm(dim=1).amin()
        assert float((where[1][i] - where[0][i]).norm()) == pytest.approx(float(near), abs=1e-6)


def test_prototypes_at_a_coarse_level_train_and_need_a_radius():
    objective = objectives.PointPrototypes(dim=8, prototypes=5, pairs=20, radius=0.4, level=2)
    task = Pretrain(
        encoder().train(), objective, Views(Compose([Jitter(0.01, 0.02)])), projector=(16, 8),
        decoder=partial(Upcast, finest=2),
    )  # fmt: skip
    assert task.decoder.out_channels == 20
    views = task.views(scenes(), 0)
    rows = task._matched_rows(views, [task.encoder(view.batch) for view in views], scenes().pos)
    assert len(rows[0].unique()) <= 16, "only the centres of level 2 are compared"
    with pytest.raises(ConfigError, match="level=1: the centres of two views differ; give radius"):
        objectives.PointPrototypes(level=1)
    with pytest.raises(ConfigError, match=r"objective.level=4, but the encoder has levels 0 to 3"):
        centers_of(encoder()(scenes()), 4)
    features = encoder()(scenes())
    levels = (features.levels[0], features.levels[1]._replace(rows=None))
    with pytest.raises(ConfigError, match=r"do not say at which points they lie \(Level.rows\); give them"):
        centers_of(features._replace(levels=levels), 1)
    flat = DGCNN(k=3, channels=(4,), embedding=8)(scenes())
    with pytest.raises(ConfigError, match="levels 0 to 0"):
        centers_of(flat, 1)


def test_hidden_points_bring_the_colours_that_they_had():
    batch = scenes()
    task = Pretrain(
        DGCNN(k=3, channels=(4,), embedding=8, inputs=("rgb", "masked")),
        objectives.MaskedSceneContrast(dim=8, pairs=30, cell=0.3), Views(Jitter(0.01, 0.02)), projector=(16, 8),
    )  # fmt: skip
    whole = task.views(batch, 0)
    views = task._masked(whole, batch)
    rows = task._matched_rows(views, [], batch.pos)
    given = hidden_of(whole, views, rows)
    for view, index, masked, rgb in zip(views, rows, given.masked, given.rgb, strict=True):
        assert torch.equal(rgb, batch.rgb[view.batch.point_id[index]])
        assert 0 < masked.sum() < len(masked) and not view.batch.rgb[index][masked > 0].any()
    for view in whole:
        del view.batch.rgb
    assert hidden_of(whole, views, rows).rgb is None


def test_points_of_clouds_are_drawn_from_each():
    batch = tiny_batch(num_points=[3, 9])
    points = drawn_points(batch, 50, generator("drawn"))
    assert points.shape == (2, 50, 3)
    for cloud, (start, end) in enumerate(((0, 3), (3, 12))):
        own = {tuple(p) for p in batch.pos[start:end].tolist()}
        assert {tuple(p) for p in points[cloud].tolist()} == own


def two_frames():
    """Two clouds of two frames each; the points of the second lie 1 cm beside those of the first."""
    first = torch.rand(2, 10, 3, generator=generator("frames"))
    pos = torch.cat([first, first + torch.tensor([0.01, 0.0, 0.0])], 1).reshape(-1, 3)
    return make_batch(pos, num_points=20, view_id=(torch.arange(40) % 20) // 10)


def small(objective):
    return Pretrain(DGCNN(k=4, channels=(8,), embedding=16), objective, Views(SO3()), projector=(16, 8))


def test_points_of_two_frames_are_matched_by_their_places():
    batch = two_frames()
    near = small(objectives.PointInfoNCE(pairs=60, radius=0.02))
    views = near.views(batch, 0)
    rows = [
        view.batch.point_id[index] for view, index in zip(views, near._matched_rows(views, [], batch.pos), strict=True)
    ]
    assert {int(b - a) for a, b in zip(*rows, strict=True)} == {10} and len(rows[0].unique()) == 20
    with pytest.raises(CloudError, match="for two frames of a scene, objective.radius=R"):
        small(objectives.PointInfoNCE(pairs=60))._matched_rows(views, [], batch.pos)


def test_places_are_those_before_the_views_turn_them():
    batch, task = tiny_batch(num_points=[9, 14]), small(objectives.PartitionedInfoNCE(pairs=50))
    views = task.views(batch, 0)
    rows = task._matched_rows(views, [], batch.pos)
    index, places = rows[0], task._given(batch, views, views, rows)
    assert torch.equal(places.pos, batch.pos[views[0].batch.point_id[index]])
    assert torch.equal(places.cloud, batch.batch[views[0].batch.point_id[index]])
    assert small(objectives.PointInfoNCE(pairs=50))._given(batch, views, views, rows) is None


def test_clouds_to_reconstruct_are_drawn_anew_in_every_step_and_process(monkeypatch):
    batch, task = tiny_batch(num_points=[9, 14]), small(objectives.Completion(dim=8, points=6, hidden=8))
    views, drawn = task.views(batch, 0), []
    for step, rank in ((0, 0), (0, 0), (1, 0), (0, 1)):
        monkeypatch.setattr(Pretrain, "global_step", step)
        monkeypatch.setattr(Pretrain, "global_rank", rank)
        drawn.append(task._given(batch, views, views, [None, None]))
    assert torch.equal(drawn[0], drawn[1]) and drawn[0].shape == (2, 6, 3)
    assert not torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[3])
