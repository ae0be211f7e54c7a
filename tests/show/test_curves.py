import numpy as np
import pytest
from matplotlib.image import imread

from geo3d.errors import ConfigError, Geo3dError
from geo3d.probes import compare
from geo3d.show import curves
from geo3d.show.curves import plot_bars, plot_labels, plot_training


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, in order."""
    kept = []
    save = curves.save
    monkeypatch.setattr(curves, "save", lambda figure, path: kept.append(figure) or save(figure, path))
    return kept


def history(epochs=8):
    rows = [
        {"epoch": e, "step": 10 * e, "loss": 5 / e, "align": 2 / e, "std": 0.5, "rank": 4.0 + e}
        for e in range(1, epochs + 1)
    ]
    for row in rows[3::4]:
        row["knn"] = 0.7 + 0.01 * row["epoch"]
    rows[2]["loss"] = float("nan")
    return rows


def inked(path):
    """Share of the pixels that are not white."""
    return float((imread(path)[..., :3] < 0.99).any(-1).mean())


def test_training_draws_what_was_logged(tmp_path, figures):
    path = plot_training(history(), tmp_path / "new" / "training.png", terms=("align",), floor=0.6)
    assert 0.01 < inked(path) < 0.3
    assert [file.name for file in path.parent.iterdir()] == ["training.png"]  # nothing temporary stays
    loss, std, rank, knn = figures[0].axes
    assert [line.get_label() for line in loss.lines] == ["loss", "align"]
    assert [bool(ax.get_legend()) for ax in (loss, std, rank, knn)] == [True, False, False, False]
    np.testing.assert_array_equal(loss.lines[0].get_xdata(), [1, 2, 4, 5, 6, 7, 8])  # without the NaN
    np.testing.assert_allclose(knn.lines[0].get_ydata(), [74, 78])
    assert knn.lines[1].get_ydata()[0] == 60
    assert std.get_ylim()[1] > 1 and rank.get_ylim()[0] == 0
    assert loss.get_xlim() == knn.get_xlim()


def test_training_over_steps_and_with_one_row(tmp_path, figures):
    plot_training(history(), tmp_path / "a.png", over="step")
    np.testing.assert_array_equal(figures[0].axes[1].lines[0].get_xdata(), np.arange(10, 81, 10))
    assert inked(plot_training([{"epoch": 1, "loss": 2.0}], tmp_path / "b.png")) > 0.005


def test_bars_have_the_heights_of_the_means(tmp_path, figures):
    rows = {"linear SVM": compare([0.7, 0.72], [0.9, 0.88], [0.92, 0.93]), "kNN": compare([0.5], [0.8])}
    assert inked(plot_bars(rows, tmp_path / "bars.png")) > 0.05
    (ax,) = figures[0].axes
    assert [round(p.get_height(), 6) for p in ax.patches if p.get_height()] == [71, 89, 92.5, 50, 80]
    assert [t.get_text() for t in ax.texts] == ["71.0", "89.0", "92.5", "50.0", "80.0"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["linear SVM", "kNN"]
    left, right = ax.get_xlim()
    assert -left == pytest.approx(right - 1) and 0.5 < -left < 1


def test_labels_lie_on_a_logarithmic_axis(tmp_path, figures):
    lines = {"pretrained": {0.01: [0.6, 0.7], 1.0: [0.9, 0.92]}, "from scratch": {1.0: [0.9], 0.1: [0.7]}}
    assert inked(plot_labels(lines, tmp_path / "labels.png")) > 0.01
    (ax,) = figures[0].axes
    assert ax.get_xscale() == "log"
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1 %", "10 %", "100 %"]
    first, second = (container.lines[0] for container in ax.containers)
    np.testing.assert_allclose(first.get_xydata(), [[1, 65], [100, 91]])
    np.testing.assert_allclose(second.get_xydata(), [[10, 70], [100, 90]])


def test_a_failed_picture_leaves_the_old_one(tmp_path, monkeypatch):
    path = plot_training(history(), tmp_path / "a.png")
    before = path.read_bytes()

    def full(self, target, **_):
        target.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(curves.Figure, "savefig", full)
    with pytest.raises(OSError, match="no space"):
        plot_training(history(3), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_bad_input(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(ConfigError, match="no finite number"):
        plot_training([], path)
    with pytest.raises(ConfigError, match="no finite number"):
        plot_training([{"epoch": 1, "loss": float("nan")}], path)
    with pytest.raises(ConfigError, match="needs 'step'"):
        plot_training([{"epoch": 1, "loss": 1.0}], path, over="step")
    with pytest.raises(ConfigError, match="no probe"):
        plot_bars({}, path)
    with pytest.raises(ConfigError, match="at least one fraction"):
        plot_labels({"pretrained": {}}, path)
    with pytest.raises(ConfigError, match=r"up to 1, found \[5.0\]"):
        plot_labels({"pretrained": {5.0: [0.5]}}, path)
    with pytest.raises(Geo3dError, match="found a folder"):
        plot_training(history(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_panel_is_framed_on_two_sides_only():
    _, (ax,) = curves.panel(3, 2)
    assert {side for side, spine in ax.spines.items() if spine.get_visible()} == {"left", "bottom"}


def test_all_panels_reach_from_the_first_epoch_to_the_last(tmp_path, figures):
    plot_training(history(), tmp_path / "training.png")
    limits = {ax.get_xlim() for ax in figures[0].axes if ax.get_visible() and ax.lines}
    assert limits == {(1 - 0.03 * 7, 8 + 0.03 * 7)}


def test_a_bar_has_its_deviation_if_there_is_one(figures):
    for deviation, drawn in ((0.02, 1), (None, 0)):
        _, (ax,) = curves.panel(3, 2)
        curves.bar(ax, 1.0, {"mean": 0.5, "std": deviation}, "red")
        assert ax.patches[0].get_height() == 50 and len(ax.collections) == drawn
        assert [text.get_text() for text in ax.texts] == ["50.0"]
        for line in ax.collections:
            assert line.get_segments()[0][:, 1].tolist() == [48, 52]


def test_the_shortcut_has_one_panel_with_the_untrained_values_as_dotted_lines(tmp_path):
    keys = ("height", "position", "normal", "density")
    history = [{"epoch": e, "loss": 1.0, **{f"shortcut_{key}": 0.1 * e for key in keys}} for e in (1, 2, 3)]
    plain = imread(plot_training(history, tmp_path / "a.png"))
    floors = imread(plot_training(history, tmp_path / "b.png", shortcut=dict.fromkeys(keys, 0.8)))
    one = imread(
        plot_training(
            [{k: v for k, v in row.items() if k == "epoch" or k == "loss"} for row in history], tmp_path / "c.png"
        )
    )
    assert plain.shape == floors.shape and (plain != floors).any()
    assert plain.shape[1] == 2 * one.shape[1] and plain.shape[0] == one.shape[0]  # two panels, not five
