"""The scene of a segmentation: classes have one colour in all panes, and points without a label are not judged."""

import numpy as np
from support.torus import torus

from geo3d.show.colorings import of_scalar
from geo3d.show.palette import UNKNOWN, distinct
from geo3d.show.scenes.segmentation import RIGHT, WRONG, segmentation_scene

NAMES = ("floor", "wall", "night_stand")


def test_truth_prediction_and_errors_agree():
    pos = torus(6)
    truth, predicted = np.array([0, 1, 2, -1, 255, 1]), np.array([0, 1, 1, 1, 2, 1])
    colorings = (of_scalar("height", pos[:, 2]),)
    scene = segmentation_scene(pos, colorings, predicted, truth, NAMES, [1.0, 2 / 3, 0.0], "room")
    assert [pane.title for pane in scene.panes] == ["room", "truth", "prediction", "errors"] and scene.columns == 2
    shown = [pane.points[0].colorings[0].rgb().tolist() for pane in scene.panes[1:]]
    colors = [tuple(each) for each in distinct(3).tolist()]
    assert [tuple(each) for each in shown[0]] == [colors[0], colors[1], colors[2], UNKNOWN, UNKNOWN, colors[1]]
    assert [tuple(each) for each in shown[1]] == [colors[each] for each in predicted]
    assert [tuple(each) for each in shown[2]] == [RIGHT, RIGHT, WRONG, UNKNOWN, UNKNOWN, RIGHT]
    assert scene.notes[0] == "75.0 % of 4 points right; IoU in percent: floor 100, wall 67, night stand 0"
    assert scene.notes[1] == "mean IoU of the 3 classes that occur: 55.6 %"
    assert scene.panes[1].points[0].colorings[0].names[2] == "night stand"


def test_without_truth_there_is_the_prediction_alone():
    pos = torus(6)
    scene = segmentation_scene(pos, (of_scalar("height", pos[:, 2]),), np.zeros(6, int), None, NAMES, [], "room")
    assert [pane.title for pane in scene.panes] == ["room", "prediction"] and scene.notes == ()


def test_classes_that_do_not_occur_have_no_iou():
    pos = torus(4)
    iou = [1.0, float("nan"), float("nan")]
    scene = segmentation_scene(pos, (of_scalar("h", pos[:, 2]),), np.zeros(4, int), np.zeros(4, int), NAMES, iou, "a")
    assert scene.notes[0].endswith("IoU in percent: floor 100") and "of the 1 classes" in scene.notes[1]
