import numpy as np
import pytest
from matplotlib.image import imread

from geo3d.errors import ConfigError
from geo3d.show import pareto
from geo3d.show.pareto import AROUND, KINDS, front, plot_pareto


def rows(count=6):
    kinds = list(KINDS)
    return [
        {"name": f"{kind} {i}", "kind": kind, "ms": 1.0 + i, "accuracy": 0.8 + 0.01 * i, "error": 0.004 if i else 0.0}
        for i, kind in enumerate(kinds[:count])
    ]


@pytest.fixture
def figures(monkeypatch):
    kept, save = [], pareto.save
    monkeypatch.setattr(pareto, "save", lambda figure, path: kept.append(figure) or save(figure, path))
    return kept


def test_the_front_is_what_none_beats_in_both():
    draw = np.random.default_rng(0)
    found = [{"ms": ms, "accuracy": a} for ms, a in draw.integers(1, 12, (60, 2))]
    best = front(found)
    for i, row in enumerate(found):
        beaten = any(
            (o["ms"] <= row["ms"] and o["accuracy"] >= row["accuracy"])
            and (o["ms"] < row["ms"] or o["accuracy"] > row["accuracy"])
            for o in found
        )
        same = [j for j, o in enumerate(found) if o == row]
        assert (i in best) == (not beaten and i == same[0])
    assert [found[i]["ms"] for i in best] == sorted(found[i]["ms"] for i in best)


def test_the_picture_has_its_size_and_every_name_apart_from_the_others(tmp_path, figures):
    path = plot_pareto(rows(), tmp_path / "deep" / "pareto.png", title="t", also={"near": 3.3, "far": 500.0})
    image = imread(path)
    assert image.shape[:2] == (800, 1200) and 0.005 < (image[..., :3] < 0.99).any(-1).mean() < 0.3
    assert [file.name for file in path.parent.iterdir()] == ["pareto.png"]
    (ax,) = figures[0].axes
    assert ax.get_xscale() == "log" and ax.get_xlim()[1] < 500
    assert 78 < ax.get_ylim()[0] < 80 and 100 * (0.79 + 0.01 * len(rows())) < ax.get_ylim()[1] < 88
    names = {text.get_text(): text for text in ax.texts}
    assert "near" in names and any("far: 500 ms" in name for name in names)
    boxes = [names[row["name"]].get_window_extent() for row in rows()]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    frame = ax.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
    for row, box in zip(rows(), boxes, strict=True):  # in points, as the places around a marker are
        x, y = ax.transData.transform((row["ms"], 100 * row["accuracy"]))
        steps = np.array([box.x0 - x, (box.y0 + box.y1) / 2 - y]) * 72 / ax.figure.dpi
        assert any(abs(steps[1] - dy) < 1 for _, dy in AROUND), (row["name"], steps)


def test_markers_follow_the_kind_and_bars_the_errors(tmp_path, figures):
    plot_pareto(rows(), tmp_path / "pareto.png")
    ax, legend = figures[0].axes[0], figures[0].legends[0]
    assert [text.get_text() for text in legend.get_texts()][: len(KINDS)] == list(KINDS)
    by_kind = {each.get_label(): each for each in ax.collections if each.get_label() in KINDS}
    assert len({len(each.get_paths()[0].vertices) for each in by_kind.values()}) > 1
    for row in rows():
        assert by_kind[row["kind"]].get_offsets().tolist() == [[row["ms"], pytest.approx(100 * row["accuracy"])]]
    bars = [each for each in ax.collections if each.get_label() not in KINDS]
    assert {float(path.vertices[0, 0]) for bar in bars for path in bar.get_paths()} == {
        row["ms"] for row in rows() if row["error"]
    }
    half = sorted(abs(np.diff(path.vertices[:, 1])[0]) / 2 for bar in bars for path in bar.get_paths())
    assert half[-5:] == pytest.approx([0.4] * 5)


def test_kinds_that_are_missing_are_passed_over(tmp_path, figures):
    first, *_, last = rows()
    plot_pareto([first, last], tmp_path / "pareto.png")
    drawn = {each.get_label() for each in figures[0].axes[0].collections}
    assert {first["kind"], last["kind"]} <= drawn and not drawn & ({*KINDS} - {first["kind"], last["kind"]})


def test_names_keep_off_the_whole_of_a_bar(tmp_path, figures):
    row = {"name": "a", "kind": "float", "ms": 2.0, "accuracy": 0.8, "error": 0.05}
    plot_pareto([row], tmp_path / "pareto.png")
    (ax,) = figures[0].axes
    (marker, bar) = pareto._drawn(ax, [row], [ax.transData.transform((2.0, 80.0))], [0], ax.figure.dpi / 72)
    low, high = (ax.transData.transform((2.0, y)) for y in (75.0, 85.0))
    assert bar.y0 == pytest.approx(low[1]) and bar.y1 == pytest.approx(high[1]) and bar.x0 < low[0] < bar.x1
    assert marker.y0 < (low[1] + high[1]) / 2 < marker.y1


def test_names_keep_off_the_steps_of_the_front(tmp_path, figures):
    both = [{"name": n, "kind": "float", "ms": ms, "accuracy": a} for n, ms, a in (("a", 2.0, 0.8), ("b", 4.0, 0.9))]
    plot_pareto(both, tmp_path / "pareto.png")
    (ax,) = figures[0].axes
    at = [ax.transData.transform((row["ms"], 100 * row["accuracy"])) for row in both]
    *_, along, upwards = pareto._drawn(ax, both, at, [0, 1], 1.0)
    (x0, y0), (x1, y1) = at
    assert along.extents.tolist() == pytest.approx([x0, y0 - 1, x1, y0 + 1])
    assert upwards.extents.tolist() == pytest.approx([x1 - 1, y0, x1 + 1, y1])


def test_a_single_point_has_an_axis_that_can_be_read(tmp_path, figures):
    plot_pareto(rows(1), tmp_path / "pareto.png")
    low, high = figures[0].axes[0].get_xlim()
    assert sum(low < tick < high for tick in figures[0].axes[0].get_xticks()) >= 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no encoder with an accuracy and a time"),
        ([{"name": "a", "kind": "tiny", "ms": 1.0, "accuracy": 0.5}], "a: no kind 'tiny'; there are float, quantised"),
        ([{"name": "a", "kind": "float", "ms": 0.0, "accuracy": 0.5}], "a: time must be above 0, found 0.0 ms"),
    ],
)
def test_mistakes_are_one_line(given, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        plot_pareto(given, tmp_path / "pareto.png")
    assert not list(tmp_path.iterdir())


def test_the_axis_reaches_what_else_was_timed_if_that_is_not_far(tmp_path, figures):
    for also in ({"near": 10.0}, {"below": 0.6}, {"far": 13.0}, {"nowhere": 0.4}):
        plot_pareto(rows(), tmp_path / "pareto.png", also=also)
    near, below, far, nowhere = (figure.axes[0].get_xlim() for figure in figures)
    assert near[1] > 10 and below[0] < 0.6
    assert far == nowhere and far[1] < 10 and far[0] > 0.6
