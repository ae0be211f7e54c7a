import pytest
import torch

from geo3d import seeds
from geo3d.cloud import make_batch, select_points
from geo3d.errors import CloudError, ConfigError
from geo3d.geometry.normalize import normalized
from geo3d.invariance import (
    SO3,
    AnisotropicScale,
    Compose,
    CropKNN,
    Drop,
    Jitter,
    Permutation,
    Resample,
    Scale,
    Translation,
)
from geo3d.invariance.views import Views, correspondences, matched_rows, near_correspondences
from geo3d.testing import tiny_batch

CHAIN = Compose([CropKNN(0.5, 0.8), SO3(), Jitter()])


def test_views_are_decided_by_their_key_alone():
    batch = tiny_batch(num_points=[40, 64])
    views = Views(CHAIN, num_points=32, num_views=3)
    again = Views(CHAIN, num_points=32, num_views=2)
    a, b, c = views(batch, 0, "views", 1), again(batch, 0, "views", 1), views(batch, 0, "views", 2)
    for one, two in zip(a, b, strict=False):  # fewer views leave the first ones as they are
        assert torch.equal(one.batch.pos, two.batch.pos) and torch.equal(one.batch.point_id, two.batch.point_id)
    assert len(a) == 3 and len(b) == 2
    assert a[0].batch.pos.shape != c[0].batch.pos.shape or not torch.equal(a[0].batch.pos, c[0].batch.pos)
    assert a[0].batch.pos.shape != a[1].batch.pos.shape or not torch.equal(a[0].batch.pos, a[1].batch.pos)


def test_a_view_is_resampled_and_then_moved_by_its_element():
    batch = tiny_batch(num_points=[40, 64], dtype=torch.float64)
    views = Views(SO3(), num_points=16)
    before = batch.clone()
    for i, (view, element, _) in enumerate(views(batch, 7)):
        assert view.num_points == 16
        expected = torch.einsum("mij,mj->mi", element[view.batch], batch.pos[view.point_id])
        assert torch.allclose(view.pos, expected)
        chosen = Resample(16).sample(batch, seeds.generator(7, "view", i)).points
        assert torch.equal(view.point_id, chosen)
    assert torch.equal(batch.pos, before.pos)


def test_without_num_points_all_stay():
    batch = tiny_batch(num_points=[4, 6])
    (view,) = Views(SO3(), num_views=1)(batch, 0)
    assert torch.equal(view.batch.point_id, batch.point_id)


@pytest.mark.parametrize("sizes", [32, [1, 9, 30]])
def test_views_are_normalised_between_resampling_and_invariance(sizes):
    batch = tiny_batch(num_points=sizes, dtype=torch.float64)
    batch.pos += 3.0
    batch.joints = batch.pos[batch.ptr[:-1]][:, None].clone()  # a joint on the first point of each cloud
    views = Views(Compose([Scale(2.0, 3.0), Translation(0.5)]), num_points=20, normalize="unit_sphere")
    for view, element, source in views(batch, 0):
        assert torch.equal(view.pos, views.invariance.act(element, source).pos)
        assert not torch.allclose(view.pos, source.pos)  # normalisation does not undo shifts and scales
        for start, end in zip(source.ptr[:-1], source.ptr[1:], strict=True):
            pos = source.pos[start:end]
            assert pos.mean(0).abs().max() < 1e-12
            assert pos.norm(dim=1).max().item() == pytest.approx(1.0 if len(pos) > 1 else 0.0, abs=1e-12)
    moved = normalized(batch, "unit_sphere")
    assert torch.allclose(moved.joints[:, 0], moved.pos[moved.ptr[:-1]])
    assert torch.equal(batch.pos[batch.ptr[:-1]], batch.joints[:, 0])  # the batch is not changed in place


def test_fewer_points_are_normalised_by_themselves_and_moved_alike():
    batch = tiny_batch(num_points=40, dtype=torch.float64)
    views = Views(Compose([SO3(), Translation(0.5)]), num_points=20, normalize="unit_sphere")
    view = views(batch, 0)[0]
    fewer = views.of_fewer_points(view, 8)
    source = batch.pos[view.batch.point_id].view(-1, 20, 3)[:, :8]
    source = source - source.mean(1, keepdim=True)
    source = source / source.norm(dim=2).amax(1)[:, None, None]
    turn, shift = view.element
    expected = source @ turn.mT + shift[:, None]
    assert torch.allclose(fewer.pos.view(-1, 8, 3), expected)


def plain_correspondences(a, b):
    pairs = []
    for i in range(len(a.pos)):
        for j in range(len(b.pos)):
            if a.batch[i] == b.batch[j] and a.point_id[i] == b.point_id[j]:
                pairs.append((i, j))
                break
    return torch.tensor(pairs, dtype=torch.int64).view(-1, 2)


@pytest.mark.parametrize("sizes", [24, [1, 9, 30]])
def test_correspondences_are_the_loop(sizes):
    batch = tiny_batch(num_points=sizes)
    a, b = (view.batch for view in Views(CHAIN @ Drop(), num_points=20)(batch, 0))
    index = torch.stack(correspondences(a, b), 1)
    assert torch.equal(index, plain_correspondences(a, b))
    assert 0 < len(index) < len(a.pos)
    assert torch.equal(a.rgb[index[:, 0]], b.rgb[index[:, 1]])
    back = torch.stack(correspondences(b, a), 1)
    assert set(map(tuple, back.flip(1).tolist())) == set(map(tuple, index.tolist()))


def test_correspondences_of_repeated_and_local_ids():
    batch = tiny_batch(num_points=[5, 6])
    batch.point_id = torch.cat([torch.arange(5), torch.arange(6)])  # counted from 0 in every cloud
    a = select_points(batch, torch.tensor([1, 1, 4, 5, 7]), ptr=torch.tensor([0, 3, 5]))
    b = select_points(batch, torch.tensor([0, 1, 1, 7, 5, 5]), ptr=torch.tensor([0, 3, 6]))
    index = torch.stack(correspondences(a, b), 1)
    assert torch.equal(index, plain_correspondences(a, b))
    assert index.tolist() == [[0, 1], [1, 1], [3, 4], [4, 3]]


def test_no_common_points():
    batch = tiny_batch(num_points=4)
    a = select_points(batch, torch.tensor([0, 4, 8]), num_points=1)
    b = select_points(batch, torch.tensor([3, 7, 11]), num_points=1)
    index_a, index_b = correspondences(a, b)
    assert len(index_a) == len(index_b) == 0


def test_mistakes_are_named():
    with pytest.raises(CloudError, match="3 and 2 clouds"):
        correspondences(tiny_batch(3), tiny_batch(2))
    with pytest.raises(ConfigError, match="Views.invariance: 'so3' is not an Invariance"):
        Views("so3")
    with pytest.raises(ConfigError, match="Views.num_points: 0 is not an int from 1"):
        Views(SO3(), num_points=0)
    with pytest.raises(ConfigError, match="num_views"):
        Views(SO3(), num_views=0)


def test_views_keep_all_digits_under_autocast():
    batch = tiny_batch()
    views = Views(Compose([AnisotropicScale(0.5, 2.0), SO3()]), num_points=16)
    expected = views(batch, 1)
    with torch.autocast("cpu", torch.bfloat16):
        got = views(batch, 1)
    for a, b in zip(got, expected, strict=True):
        assert a.batch.pos.dtype == torch.float32
        assert torch.equal(a.batch.pos, b.batch.pos) and torch.equal(a.batch.normal, b.batch.normal)


def test_matched_rows_are_drawn_among_the_correspondences():
    batch = tiny_batch(num_points=[40, 30, 2])
    views = Views(Resample(20))(batch, 0)
    a, b = views[0].batch, views[1].batch
    whole = set(zip(*(index.tolist() for index in correspondences(a, b)), strict=True))
    index_a, index_b = matched_rows(a, b, 9, seeds.generator(1))
    few = list(zip(index_a.tolist(), index_b.tolist(), strict=True))
    assert len(set(few)) == 9 and set(few) <= whole
    assert torch.equal(a.point_id[index_a], b.point_id[index_b]) and torch.equal(a.batch[index_a], b.batch[index_b])
    many = matched_rows(a, b, 3 * len(whole), seeds.generator(1))
    counts = torch.stack(many).unique(dim=1, return_counts=True)[1]
    assert counts.tolist() == [3] * len(whole)
    assert torch.equal(matched_rows(a, b, 9, seeds.generator(1))[0], index_a)
    assert not torch.equal(matched_rows(a, b, 9, seeds.generator(2))[0], index_a)


def test_a_cloud_without_a_match_gives_no_pair():
    batch = tiny_batch(num_points=4)  # three clouds
    a = select_points(batch, torch.tensor([0, 1, 4, 5, 8, 9]), num_points=2)
    b = select_points(batch, torch.tensor([1, 0, 6, 7, 9, 10]), num_points=2)
    index_a, _ = matched_rows(a, b, 12, seeds.generator(0))
    assert set(a.batch[index_a].tolist()) == {0, 2}
    c = select_points(batch, torch.tensor([2, 3, 6, 7, 10, 11]), num_points=2)
    with pytest.raises(CloudError, match="the two views show no point in common"):
        matched_rows(a, c, 4, seeds.generator(0))


def frames(sizes=((5, 3), (4, 6)), dtype=torch.float64):
    """Clouds of two frames each: the points of frame 1 lie 0.1 beside the first ones of frame 0."""
    draw, pos, view, ptr = seeds.generator("frames"), [], [], [0]
    for a, b in sizes:
        first = torch.rand(a, 3, generator=draw, dtype=dtype)
        more = torch.rand(max(0, b - a), 3, generator=draw, dtype=dtype) + 9
        pos += [first, torch.cat([first, more])[:b] + torch.tensor([0.1, 0, 0], dtype=dtype)]
        view += [0] * a + [1] * b
        ptr.append(ptr[-1] + a + b)
    return make_batch(torch.cat(pos), ptr=torch.tensor(ptr), view_id=torch.tensor(view))


def test_frames_are_views():
    batch = frames()
    views = Views(Compose([]))(batch, 0)
    for number, view in enumerate(views):
        expected = (batch.view_id == number).nonzero()[:, 0]
        assert view.batch.point_id.tolist() == expected.tolist() and torch.equal(view.batch.pos, batch.pos[expected])
        assert view.batch.ptr.tolist() == [0, *[[5, 9], [3, 9]][number]]
    with pytest.raises(CloudError, match="cloud 0 of the batch has no point with view_id=2"):
        Views(Compose([]), num_views=3)(batch, 0)


def test_near_correspondences_are_the_nearest_points_of_the_other_view_within_the_radius():
    batch = frames()
    a, b = (view.batch for view in Views(SO3() @ Permutation())(batch, 0))
    index_a, index_b = near_correspondences(a, b, batch.pos, radius=0.11)
    expected = {}
    for i, j in enumerate(a.point_id.tolist()):
        own = [k for k in range(len(b.pos)) if b.batch[k] == a.batch[i]]
        distance = {k: float((batch.pos[j] - batch.pos[b.point_id[k]]).norm()) for k in own}
        nearest = min(distance, key=distance.get)
        if distance[nearest] <= 0.11:
            expected[i] = nearest
    assert dict(zip(index_a.tolist(), index_b.tolist(), strict=True)) == expected
    assert 3 <= len(expected) < len(a.pos)
    rows = matched_rows(a, b, 20, seeds.generator(0), batch.pos, 0.11)
    assert set(zip(*(each.tolist() for each in rows), strict=True)) == set(expected.items())
    with pytest.raises(CloudError, match="no point in common"):
        matched_rows(a, b, 20, seeds.generator(0), batch.pos, 1e-3)
    with pytest.raises(CloudError, match="no point in common"):
        matched_rows(a, b, 20, seeds.generator(0))
    with pytest.raises(CloudError, match="a radius needs origin"):
        matched_rows(a, b, 20, seeds.generator(0), radius=0.1)
