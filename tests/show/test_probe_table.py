import pytest

from geo3d.errors import ConfigError
from geo3d.probes import compare
from geo3d.show.table import render


def test_table_reads_as_written():
    rows = {
        "linear SVM (strict)": compare([0.695, 0.701, 0.688], [0.901, 0.897, 0.905], [0.921, 0.922, 0.919]),
        "kNN": compare([0.61, 0.6, 0.62], [0.8, 0.82, 0.81]),
    }
    assert render(rows, "DGCNN").splitlines() == [
        "DGCNN",
        "probe               | floor (untrained) |      result |     ceiling | gain +- s.e. | fraction",
        "--------------------+-------------------+-------------+-------------+--------------+---------",
        "linear SVM (strict) |       69.5 +- 0.7 | 90.1 +- 0.4 | 92.1 +- 0.2 | +20.6 +- 0.6 |     91 %",
        "kNN                 |       61.0 +- 1.0 | 81.0 +- 1.0 |   not asked | +20.0 +- 1.0 |        -",
        "accuracy in percent, mean +- std of 3 runs; ceiling: the same encoder with labels",
    ]


def test_single_runs_have_no_deviation_and_losses_a_sign():
    text = render({"kNN": compare([0.8], [0.75])})
    assert "80.0 |   75.0 | not asked |         -5.0 |        -" in text
    assert "+-" not in text.splitlines()[2] and "runs" not in text


def test_fits_100_columns_whatever_the_names_and_numbers():
    wide = compare([1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0])
    name = "5-way 10-shot, support and query from the training split"
    text = render({name: wide, "averyverylongnamewithoutanyspaces" * 2: wide}, "title")
    assert max(map(len, text.splitlines())) <= 100
    assert text.isascii()
    assert [line.split("|")[0].strip() for line in text.splitlines()[3:6]] == [
        "5-way 10-shot, support",
        "and query from the",
        "training split",
    ]


def test_no_rows():
    with pytest.raises(ConfigError, match="no probe"):
        render({})


def test_the_note_says_what_the_numbers_are():
    rows = {"linear mIoU": compare([0.5], [0.6])}
    assert render(rows, unit="percent").splitlines()[-1] == "percent; ceiling: the same encoder with labels"
