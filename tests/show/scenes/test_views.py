"""The scene of two views: colours and lines belong to the same points."""

import numpy as np
from support.torus import torus

from geo3d.show.scenes.views import Seen, views_scene


def test_colours_and_lines_belong_to_the_same_points():
    pos = torus(100)
    rng = np.random.default_rng(0)
    ids = [rng.permutation(100)[:60], rng.permutation(100)[:80]]
    turned = pos[:, [1, 2, 0]] * [1, -1, 1]
    views = [Seen(pos[ids[0]], ids[0]), Seen(turned[ids[1]], ids[1])]
    cloud, first, second, joined = views_scene(pos, views, "torus").panes
    colors = cloud.points[0].colorings[0].rgb()
    for pane, source in ((first, pos), (second, turned)):
        points = pane.points[0]
        np.testing.assert_allclose(points.pos, source[points.numbers], atol=1e-6)
        np.testing.assert_array_equal(points.colorings[0].rgb(), colors[points.numbers])
    left, right = joined.points
    shared = set(ids[0].tolist()) & set(ids[1].tolist())
    pairs = set()
    for ends in joined.lines[0].ends:
        one, other = (
            each.numbers[np.abs(each.pos - place).sum(1).argmin()]
            for each, place in zip((left, right), ends, strict=True)
        )
        assert one == other
        pairs.add(int(one))
    assert len(pairs) == min(40, len(shared)) and pairs <= shared
    for half, whole in ((left, first.points[0]), (right, second.points[0])):
        lengths = [np.linalg.norm(each.pos[1:] - each.pos[0], axis=1) for each in (half, whole)]
        np.testing.assert_allclose(lengths[0], 0.5 * lengths[1], rtol=1e-4)


def test_views_without_a_common_point_have_no_lines():
    pos = torus(10)
    views = [Seen(pos[:4], np.arange(4)), Seen(pos[4:], np.arange(4, 10))]
    scene = views_scene(pos, views, "torus")
    assert scene.panes[3].lines[0].ends.shape == (0, 2, 3) and "0 points are in both" in scene.notes[0]
