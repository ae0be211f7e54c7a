"""Pictures by splatting: what is near hides what is far, every disc lies where the camera sees its point."""

import numpy as np
from support.torus import pane, scene

from geo3d.show.scene import Camera, Coloring, Lines, Pane, Points
from geo3d.show.splat import point_size, silhouette, splat

FRONT = Camera((0.0, -10.0, 0.0), (0.0, 0.0, 0.0), field=20.0)


def dots(*points, colors=None, **kinds) -> Points:
    pos = np.array(points, dtype=np.float32)
    colors = np.zeros((len(pos), 3), np.uint8) if colors is None else np.array(colors, np.uint8)
    return Points(pos, (Coloring("colour", colors),), **kinds)


def test_a_point_is_a_disc_around_its_pixel():
    picture = silhouette(Pane("", (dots((0.3, 0, 0.5)),)), FRONT, 200, 200)
    x, y, _ = FRONT.seen(np.array([[0.3, 0, 0.5]]), 200, 200)[0]
    rows, columns = np.mgrid[:200, :200] + 0.5
    radius = point_size(1, 200) / 2
    np.testing.assert_array_equal(picture, np.square(columns - x) + np.square(rows - y) <= radius**2)


def test_the_nearer_point_hides_the_other_in_any_order():
    red, blue = (255, 0, 0), (0, 0, 255)
    for points, colors in (((0, 1), (blue, red)), ((1, 0), (red, blue))):
        drawn = dots(*[(0, -y, 0) for y in points], colors=colors)
        assert splat(Pane("", (drawn,)), FRONT, 60, 60, finer=1)[30, 30].tolist() == list(red)


def test_what_is_on_top_covers_nearer_points():
    cover, joint = dots((0, -5, 0)), dots((0, 5, 0), colors=[(0, 200, 0)], on_top=True)
    assert splat(Pane("", (cover, joint)), FRONT, 60, 60, finer=1)[30, 30].tolist() == [0, 200, 0]


def test_points_behind_the_camera_and_beside_the_picture_are_left_out():
    drawn = dots((0, -20, 0), (500, 0, 0), (0, 0, -500), (0, -10, 0))
    assert not silhouette(Pane("", (drawn,)), FRONT, 60, 60).any()


def test_a_line_covers_the_pixels_between_its_ends():
    ends = np.array([[[-1, 0, -1], [1, 4, 1]]], np.float32)
    picture = silhouette(Pane("", (), (Lines(ends, (0, 0, 0)),)), FRONT, 200, 200)
    between = ends[0, 0] + np.linspace(0, 1, 400)[:, None] * (ends[0, 1] - ends[0, 0])
    pixels = FRONT.seen(between, 200, 200)[:, :2].astype(int)
    assert picture[pixels[:, 1], pixels[:, 0]].all() and picture.sum() < 4 * 200


def test_an_empty_pane_is_white():
    assert (splat(Pane(""), FRONT, 20, 20) == 255).all()


def test_pictures_are_the_same_each_time_and_have_their_size():
    drawn = scene(3000)
    first = splat(drawn.panes[0], drawn.camera, 120, 90)
    assert first.shape == (90, 120, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, splat(drawn.panes[0], drawn.camera, 120, 90))


def test_steps_in_depth_are_darkened():
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 80), [0.0], np.linspace(-1, 1, 80)), -1).reshape(-1, 3)
    step = grid.copy()
    step[grid[:, 0] < 0, 1] = 2.0  # the left half lies behind the right one
    white = np.full((len(step), 3), 255, np.uint8)
    picture = splat(Pane("", (dots(*step, colors=white),)), FRONT, 100, 100)
    edge, plain = picture[40:60, 47:50].min(), picture[40:60, 60:70].min()
    assert edge < 200 < plain


def test_sizes_of_points():
    sizes = [point_size(10**exponent, 560) for exponent in range(7)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == 9 and sizes[-1] == 1.8
    assert pane(10).everything().shape == (12, 3)
