import numpy as np
import pytest
from matplotlib.image import imread

from geo3d.errors import ConfigError
from geo3d.show.confusion import class_table, plot_confusion

NAMES = ["wall", "floor", "chair"]


def test_the_picture_shows_which_class_was_taken_for_which(tmp_path):
    right = plot_confusion([[9, 0, 0], [0, 5, 0], [0, 0, 1]], NAMES, tmp_path / "right.png")
    wrong = plot_confusion([[0, 9, 0], [5, 0, 0], [0, 0, 1]], NAMES, tmp_path / "wrong.png")
    a, b = imread(right), imread(wrong)
    assert a.shape == b.shape and a.std() > 0.05 and not np.array_equal(a, b)
    again = plot_confusion([[90, 0, 0], [0, 50, 0], [0, 0, 10]], NAMES, tmp_path / "again.png")
    assert np.array_equal(a, imread(again))  # fractions, not counts


def test_many_classes_and_classes_without_points(tmp_path):
    counts = np.zeros((40, 40), dtype=int)
    counts[3, 4] = 7
    assert plot_confusion(counts.tolist(), [f"class {i}" for i in range(40)], tmp_path / "many.png").stat().st_size > 0


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"expected counts \(3, 3\), one row per class; found \(2, 2\)"):
        plot_confusion([[1, 2], [3, 4]], NAMES, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_the_table_has_a_line_for_each_class():
    text = class_table({"wall": 0.5, "floor": None, "chair": 1.0}, [[10, 2, 0], [0, 0, 0], [0, 0, 3]])
    assert text.splitlines() == [
        "class  IoU %  points",
        "wall    50.0      12",
        "floor      -       0",
        "chair  100.0       3",
    ]
