"""Cameras, thinning and legends."""

import numpy as np
import pytest
from support.torus import pane, scene, torus

from geo3d.errors import CloudError
from geo3d.show.scene import CAMERA_UPRIGHT, Camera, Scene, camera_around, thinned


def test_the_camera_projects_as_a_pinhole():
    camera = Camera((0.0, -10.0, 0.0), (0.0, 0.0, 0.0), field=90.0)
    seen = camera.seen(np.array([[0, 0, 0], [5, 0, 0], [0, 0, 5], [0, -9, 0.5], [0, -11, 0]]), 200, 100)
    expected = [[100, 50, 10], [125, 50, 10], [100, 25, 10], [100, 25, 1], [100, 50, -1]]
    np.testing.assert_allclose(seen, expected, atol=1e-9)


@pytest.mark.parametrize("azimuth", [-55, 20, 170])
@pytest.mark.parametrize("elevation", [-80, 0, 24])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 4e4])
def test_the_camera_sees_all_points_and_stands_near(azimuth, elevation, scale):
    pos = scale * (torus(500).astype(float) * [1, 3, 2] + [50, -7, 2])
    pixels = camera_around(pos, azimuth, elevation).seen(pos, 100, 100)
    away = np.abs(pixels[:, :2] - 50)
    assert (pixels[:, 2] > 0).all() and 42 < away.max() <= 50


def test_one_point_and_equal_points_have_a_camera():
    for pos in (np.zeros((1, 3)), np.full((4, 3), 7e5)):
        np.testing.assert_allclose(camera_around(pos).seen(pos, 100, 100)[:, :2], 50, atol=1e-3)


def test_a_camera_of_nothing_is_refused():
    with pytest.raises(CloudError, match="at least one point"):
        camera_around(np.zeros((0, 3)))
    with pytest.raises(CloudError, match="finite"):
        camera_around(np.array([[0, np.nan, 0]]))


def test_thinning_is_the_same_each_time_and_keeps_the_order():
    first = thinned(1000, 100)
    assert first is not None and len(first) == 100 and (np.diff(first) > 0).all() and first.max() < 1000
    np.testing.assert_array_equal(first, thinned(1000, 100))
    assert thinned(100, 100) is None


def test_a_legend_is_listed_once_with_the_entries_that_occur():
    second = pane(100)
    west = second.points[0]
    quarter = west.colorings[1]._replace(values=np.full(100, 2))
    both = scene(100, 2).panes + (second._replace(points=(west._replace(colorings=(quarter,)),)),)
    legends = Scene(both, camera_around(torus(10))).legends()
    assert [each.name for each in legends] == ["height", "quarter"]
    assert legends[1].names == ("north-west",) and legends[1].table.tolist() == [quarter.table[2].tolist()]


def test_a_cloud_of_a_depth_camera_is_upright_and_seen_by_that_camera():
    pos = torus(300).astype(float) * [0.1, 0.05, 0.1] + [0.02, 0.1, 0.7]
    camera = camera_around(pos, -90.0, 0.0, upright=CAMERA_UPRIGHT)
    seen = camera.seen(pos, 100, 100)
    for axis, order in ((0, pos[:, 0]), (1, pos[:, 1])):  # x to the right, y downwards
        assert np.corrcoef(seen[:, axis], order)[0, 1] > 0.99
    assert np.corrcoef(seen[:, 2], pos[:, 2])[0, 1] > 0.999  # far is far
