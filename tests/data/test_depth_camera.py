import math

import pytest
import torch

from geo3d import seeds
from geo3d.data.depth_camera import BASELINE, FOCAL, STEP, DepthCamera, silhouettes
from geo3d.data.rooms.thing import rectangle
from geo3d.errors import ConfigError

NONE = {"lateral": 0, "flying": 0, "axial": 0, "steps": 0, "holes": 0}


def wall(depth, tilt=0.0, half=9.0):
    """A large rectangle in front of the camera, turned about the vertical axis."""
    c, s = math.cos(tilt), math.sin(tilt)
    start = (-half * c, -half, depth + half * s)
    return torch.from_numpy(rectangle(start, (2 * half * c, 0, -2 * half * s), (0, 2 * half, 0)))


def step(front=1.0, back=2.0):
    """A near wall that covers the left half of the picture, and a far one behind it."""
    near = torch.from_numpy(rectangle((-9, -9, front), (9, 0, 0), (0, 18, 0)))
    return torch.cat([near, wall(back)])


def measured(corner, *, clear=None, key=0, **options):
    return DepthCamera(**(NONE | options)).measured(corner, seeds.generator("camera", key), clear)


def test_without_faults_depths_are_exact():
    corner = step()
    exact, picture = DepthCamera(**NONE).exact(corner), measured(corner)
    assert torch.equal(exact.depth, picture.depth) and torch.equal(exact.face, picture.face)
    assert sorted(set(exact.depth.unique().round(decimals=4).tolist())) == [1.0, 2.0]
    points = DepthCamera(**NONE).points(exact.depth)
    assert float(points[..., 0].min()) < -0.5 and torch.equal(points[..., 2], exact.depth)


@pytest.mark.parametrize(("depth", "tilt"), [(0.8, 0.0), (3.0, 0.0), (1.5, 0.9)])
def test_noise_along_the_ray_has_the_published_std(depth, tilt):
    corner, camera = wall(depth, tilt), DepthCamera(**(NONE | {"axial": 1.0}))
    exact = camera.exact(corner).depth
    noise = torch.stack([measured(corner, axial=1.0, key=key).depth - exact for key in range(40)])
    for v, u in ((60, 80), (20, 30), (100, 120)):
        z = float(exact[v, u])
        ray = torch.tensor([(u - camera.center[0]) / camera.focal, (v - camera.center[1]) / camera.focal, 1.0])
        normal = torch.tensor([math.sin(tilt), 0.0, math.cos(tilt)])
        angle = math.acos(min(1.0, abs(float(ray @ normal)) / float(ray.norm())))
        expected = 0.0012 + 0.0019 * (z - 0.4) ** 2 + 0.0001 / math.sqrt(z) * (angle / (math.pi / 2 - angle)) ** 2
        around = noise[:, v - 2 : v + 3, u - 2 : u + 3]
        assert float(around.std()) == pytest.approx(expected, rel=0.12)
        assert abs(float(around.mean())) < 0.2 * expected


def test_depths_lie_on_steps_of_equal_disparity():
    picture = measured(wall(2.0, 0.5), steps=1.0)
    seen = picture.depth[picture.depth > 0].double()
    eighths = FOCAL * BASELINE / seen / STEP
    assert float((eighths - eighths.round()).abs().max()) < 1e-3 and len(seen.unique()) > 5
    exact = DepthCamera(**NONE).exact(wall(2.0, 0.5)).depth[picture.depth > 0]
    assert float((seen - exact).abs().max()) < 0.6 * 5.0**2 * STEP / (FOCAL * BASELINE)


def test_flying_pixels_are_between_front_and_back_and_only_at_silhouettes():
    picture = measured(step(), flying=3.0)
    between = (picture.depth > 1.01) & (picture.depth < 1.99)
    columns = between.nonzero()[:, 1].unique()
    edge = int(round(DepthCamera().center[0]))
    assert int(between.sum()) > 10 and float((columns - edge).abs().max()) <= 2
    assert not bool(((measured(step()).depth > 1.01) & (measured(step()).depth < 1.99)).any())
    slanted = wall(2.0, 1.0, half=90.0)  # its depth changes from pixel to pixel, but it has no silhouette
    assert torch.equal(measured(slanted, flying=3.0).depth, measured(slanted).depth)


def test_sideways_noise_moves_silhouettes():
    straight, rough = measured(step()).depth < 1.5, measured(step(), lateral=4.0).depth < 1.5
    assert bool((straight == straight[:1]).all()) and not bool((rough == rough[:1]).all())
    flat = measured(wall(2.0), lateral=4.0).depth
    torch.testing.assert_close(flat, torch.full_like(flat, 2.0))


def test_steep_surfaces_are_lost_with_a_probability_that_rises_from_60_degrees():
    tilt, camera = 1.15, DepthCamera(**NONE)
    lost = torch.stack([measured(wall(1.5, tilt), holes=1.0, key=key).depth == 0 for key in range(30)]).float().mean(0)
    ray = torch.nn.functional.normalize(camera.points(torch.ones(120, 160)), dim=2)
    angle = (ray @ torch.tensor([math.sin(tilt), 0.0, math.cos(tilt)])).abs().acos()
    expected = ((angle - math.pi / 3) / (math.pi / 12)).clamp(0, 1) * (1 - angle.cos())
    for low, high in ((0.0, 1.0), (1.06, 1.12), (1.15, 1.2), (1.25, 1.3)):
        rows = (angle >= low) & (angle < high) & (camera.exact(wall(1.5, tilt)).depth < 3.0)
        if int(rows.sum()) > 200:
            assert float(lost[rows].mean()) == pytest.approx(float(expected[rows].mean()), abs=0.04)


def test_holes_are_at_silhouettes_on_glass_and_in_spots():
    flat = float((measured(wall(1.5), holes=1.0).depth == 0).float().mean())
    assert 0 < flat < 0.02
    glass = measured(wall(1.5), holes=1.0, clear=torch.ones(2, dtype=torch.bool))
    assert float((glass.depth == 0).float().mean()) == pytest.approx(0.9, abs=0.03)
    at_edge = measured(step(), holes=1.0).depth[:, 77:83] == 0
    assert float(at_edge.float().mean()) > 0.08
    assert int(silhouettes(DepthCamera().exact(step()).depth).sum()) == 2 * 120  # the two columns at the edge
    assert bool(((glass.face < 0) == (glass.depth == 0)).all())


def test_nothing_is_measured_too_near_or_too_far():
    for depth, seen in ((0.3, False), (0.5, True), (4.5, True), (6.0, False)):
        assert bool((measured(wall(depth, half=90.0)).depth > 0).all()) == seen
    assert not bool((measured(torch.zeros(0, 3, 3)).depth > 0).any())


def test_the_generator_decides():
    one, again, other = (measured(step(), axial=1.0, holes=1.0, key=key).depth for key in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize("option", [{"height": 0}, {"angle": 180.0}, {"far": 0.0}, {"holes": 11.0}, {"axial": -1.0}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(ConfigError, match=f"DepthCamera.{next(iter(option))}"):
        DepthCamera(**option)
