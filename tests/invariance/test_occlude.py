import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from geo3d import seeds
from geo3d.cloud import make_batch
from geo3d.invariance import Occlude
from geo3d.invariance.draws import directions
from geo3d.invariance.occlude import visible
from geo3d.testing import tiny_batch


def sphere(num_clouds, n, radius=1.0, seed=0):
    drawn = torch.randn(num_clouds * n, 3, generator=seeds.generator("sphere", seed), dtype=torch.float64)
    return make_batch(radius * drawn / drawn.norm(dim=1, keepdim=True), num_points=n)


@pytest.mark.parametrize(("distance", "radius"), [(2.0, 10.0), (3.0, 30.0), (10.0, 100.0)])
def test_occlude_keeps_the_near_cap_of_a_sphere(distance, radius):
    batch = sphere(4, 800, radius=0.2)
    batch.pos += 5.0  # away from the origin
    out = Occlude(distance, radius)(batch, seeds.generator(0))
    height = ((batch.pos - 5.0) / 0.2 * directions(batch, seeds.generator(0))[batch.batch]).sum(1)
    facing = height > 1 / distance  # the tangent cone from the viewpoint
    kept = torch.zeros_like(facing)
    kept[out.point_id] = True
    assert kept[facing].double().mean() > 0.99  # a sphere is its own hull: all points that face the viewpoint
    assert kept[~facing].double().mean() < 0.1
    assert height[kept].min() > 1 / distance - 0.35


def test_occlude_looks_from_all_sides():
    """The visible points of a sphere lie around the direction of the viewpoint, so all octants are equally likely."""
    n = 160
    out = Occlude()(sphere(n, 60), seeds.generator(0))
    seen = torch.stack([cloud.mean(0) for cloud in out.pos.split(out.ptr.diff().tolist())])
    octant = ((seen > 0).long() * torch.tensor([4, 2, 1])).sum(1).bincount(minlength=8)
    assert (octant - n / 8).abs().max() < 5 * (n * 7 / 64) ** 0.5 and octant.min() > 0
    assert torch.nn.functional.normalize(seen, dim=1).mean(0).abs().max() < 6 * (1 / 3 / n) ** 0.5


def test_occlude_hides_what_is_behind_something():
    grid = torch.cartesian_prod(torch.linspace(-1, 1, 15), torch.linspace(-1, 1, 15)).double()
    wall = torch.cat([grid, torch.full((225, 1), 4.0)], 1)
    behind = torch.cat([0.5 * grid, torch.full((225, 1), 5.0)], 1)
    seen = torch.from_numpy(visible(torch.cat([wall, behind]).numpy(), radius=30.0))
    assert seen[:225].double().mean() > 0.95
    assert seen[225:].double().mean() < 0.05


@pytest.mark.parametrize(
    "pos",
    [
        torch.zeros(20, 3),
        torch.randn(4, 3, generator=seeds.generator(0)),
        torch.arange(10.0)[:, None] * torch.tensor([1.0, 2.0, -1.0]),
    ],
    ids=["one place", "four points", "a line"],
)
def test_occlude_keeps_degenerate_clouds_whole(pos):
    batch = make_batch(torch.cat([pos, sphere(1, 100).pos.float()]), ptr=torch.tensor([0, len(pos), len(pos) + 100]))
    out = Occlude()(batch, seeds.generator(0))
    assert out.ptr[1] == len(pos) and 20 < out.ptr.diff()[1] < 80


def test_occlude_shows_a_flat_cloud():
    flat = torch.rand(200, 3, generator=seeds.generator(0)) * torch.tensor([1.0, 1.0, 0.0])
    out = Occlude()(make_batch(flat, num_points=200), seeds.generator(0))
    assert len(out.pos) > 150


def test_equal_points_are_seen_together():
    single = sphere(1, 300)
    double = make_batch(single.pos.repeat_interleave(2, 0), num_points=600)
    a, b = (Occlude()(batch, seeds.generator(0)) for batch in (single, double))
    assert torch.equal(b.point_id, torch.stack([2 * a.point_id, 2 * a.point_id + 1], 1).flatten())


@pytest.mark.parametrize("repeated", [False, True])
def test_visible_is_being_on_the_hull_of_the_flipped_points(repeated):
    points = tiny_batch(1, 200).pos.double().numpy() * [1, 1, 0.3] + [0.1, 0.2, 3.0]
    points = np.concatenate([points, points[:40]]) if repeated else points
    distance = np.linalg.norm(points, axis=1, keepdims=True)
    flipped = points + 2 * (20.0 * distance.max() - distance) * points / distance
    vertices = ConvexHull(np.concatenate([np.unique(flipped, axis=0), np.zeros((1, 3))]))
    corners = vertices.points[vertices.vertices]
    expected = (np.abs(flipped[:, None] - corners[None]).max(2) < 1e-9).any(1)
    mask = visible(points, radius=20.0)
    assert np.array_equal(mask, expected) and 0.2 < mask.mean() < 0.8


def test_the_order_of_points_and_the_number_of_threads_do_not_matter():
    batch = tiny_batch(num_points=[80, 200, 150], dtype=torch.float64)
    points = batch.pos.numpy()[80:280] + [0.0, 0.0, 3.0]
    order = torch.randperm(200, generator=seeds.generator(0)).numpy()
    assert np.array_equal(visible(points[order], 30.0), visible(points, 30.0)[order])
    threads = torch.get_num_threads()
    kept = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            kept.append(Occlude().sample(batch, seeds.generator(0)).points)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*kept)
