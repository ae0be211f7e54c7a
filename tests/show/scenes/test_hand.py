"""The scene of a hand: upright, both skeletons in both panes, and the error that it states."""

import numpy as np

from geo3d.show.colorings import of_scalar
from geo3d.show.scenes.hand import PREDICTED, TRUE, hand_scene

NAMES, BONES = ("wrist", "index_mcp", "index_tip"), ((0, 1), (1, 2))


def scene(truth):
    pos = np.random.default_rng(0).normal(size=(50, 3)) * 30 + [10, -20, 600]
    predicted = np.array([[0.0, 40, 600], [0, 0, 600], [0, -40, 600]])
    return pos, predicted, hand_scene(pos, (of_scalar("depth", pos[:, 2]),), predicted, truth, NAMES, BONES, "hand")


def test_what_is_up_in_the_picture_of_the_camera_is_up():
    pos, predicted, drawn = scene(None)
    seen = drawn.camera.seen(drawn.panes[0].points[1].pos, 100, 100)
    assert seen[2, 1] < seen[1, 1] < seen[0, 1]  # pixels count downwards, and so does y of a camera
    right = drawn.camera.seen(drawn.panes[0].points[0].pos, 100, 100)[:, 0]
    assert np.corrcoef(right, pos[:, 0])[0, 1] > 0.99
    aside = drawn.camera.seen(drawn.panes[1].points[0].pos, 100, 100)[:, 0]
    assert abs(np.corrcoef(aside, pos[:, 2])[0, 1]) > 0.99


def test_both_skeletons_are_drawn_and_the_error_is_stated():
    _, predicted, _ = scene(None)
    truth = predicted + [[3, 0, 0], [0, 4, 0], [0, 0, 12]]
    _, _, drawn = scene(truth)
    for pane in drawn.panes:
        cloud, mine, true = pane.points
        assert [each.color for each in pane.lines] == [PREDICTED, TRUE]
        assert all(len(each.ends) == 2 and each.on_top for each in pane.lines)
        apart = np.linalg.norm(mine.pos - true.pos, axis=1)
        np.testing.assert_allclose(apart, [3, 4, 12], rtol=1e-5)
        assert mine.colorings[1].names[2] == "index tip" and len(cloud.pos) == 50
    assert drawn.notes[1] == "mean joint error 6.3 mm; worst 12.0 mm, index tip"
    assert drawn.legends()[-1].names == ("true joints", "predicted joints")
