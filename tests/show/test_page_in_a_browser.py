"""Pages in Chromium: what they show, and what mouse and keys do."""

import numpy as np
import pytest
from support.browser import browser
from support.torus import pane, scene, torus

from geo3d.show.page import write_page
from geo3d.show.scene import Camera, Coloring, Pane, Points, Scene, camera_around
from geo3d.show.splat import silhouette

RECTANGLES = (
    "return scene.panes.map(p => { const r = p.view.getBoundingClientRect(); return [r.left, r.top, r.width]; })"
)


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser"), 1500, 900) as opened:
        yield opened


def views(window) -> list[np.ndarray]:
    picture = window.picture().astype(int)
    places = [map(round, place) for place in window.run(RECTANGLES)]
    return [picture[top : top + side, left : left + side] for left, top, side in places]


def covered(view: np.ndarray) -> np.ndarray:
    """Which pixels are coloured, without the corner of the axes and the border."""
    ink = view.min(2) < 250
    side = len(ink)
    ink[int(0.8 * side) :, : int(0.2 * side)] = False
    return ink[2:-2, 2:-2]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("count", [3_000, 100_000])
def test_the_silhouette_is_that_of_the_picture(window, tmp_path, count):
    only = pane(count)._replace(lines=(), texts=())
    drawn = scene(count)._replace(panes=(only, only), camera=camera_around(torus(count)))
    window.open(write_page(drawn, tmp_path / "p.html"))
    assert window.complaints() == []
    for view in views(window):
        own = silhouette(only, drawn.camera, len(view), len(view))[2:-2, 2:-2]
        assert overlap(covered(view), own) >= (0.97 if count == 100_000 else 0.93)


def test_dragging_turns_all_panes_and_a_double_click_turns_them_back(window, tmp_path):
    window.open(write_page(scene(3000, 2), tmp_path / "p.html"))
    before = [covered(view) for view in views(window)]
    eye = window.run("return camera.eye")
    left, top, side = window.run(RECTANGLES)[0]
    x, y = round(left + side / 2), round(top + side / 2)
    move = {"type": "pointerMove", "x": x, "y": y, "duration": 0}
    press, release = {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}
    window.mouse(move, press, {"type": "pointerMove", "x": x + 150, "y": y + 90, "duration": 100}, release)
    after = [covered(view) for view in views(window)]
    turned = Camera(*(tuple(window.run(f"return camera.{name}")) for name in ("eye", "target", "up")))
    assert np.linalg.norm(np.subtract(turned.eye, turned.target)) == pytest.approx(
        np.linalg.norm(np.subtract(eye, turned.target))
    )
    assert turned.eye[2] > eye[2] + 0.5  # dragged down: seen from higher up
    for one, other in zip(before, after, strict=True):
        assert overlap(one, other) < 0.8
    own = silhouette(scene(3000).panes[0], turned, round(side), round(side))[2:-2, 2:-2]
    assert overlap(after[0], own) > 0.9
    window.mouse(press, release, press, release)
    assert window.run("return camera.eye") == pytest.approx(eye)
    assert window.complaints() == []


def test_c_changes_the_colours_and_the_legend(window, tmp_path):
    window.open(write_page(scene(3000), tmp_path / "p.html"))
    legend = "return document.getElementById('legends').innerText"
    before = views(window)[0]
    assert "height" in window.run(legend)
    window.key("c")
    assert "south-west" in window.run(legend) and "height" not in window.run(legend)
    assert np.abs(views(window)[0] - before).max(2).mean() > 5
    window.key("c")
    np.testing.assert_array_equal(views(window)[0], before)


def test_the_point_under_the_mouse_is_named(window, tmp_path):
    drawn = scene(40)
    window.open(write_page(drawn, tmp_path / "p.html"))
    left, top, side = window.run(RECTANGLES)[0]
    points = drawn.panes[0].points[0]
    pixels = drawn.camera.seen(points.pos, side, side)
    nearest = int(pixels[:, 2].argmin())
    x, y = pixels[nearest, :2]
    window.mouse({"type": "pointerMove", "x": round(left + x), "y": round(top + y), "duration": 0})
    told = window.run("return document.getElementById('label').textContent").split("\n")
    quarter = points.colorings[1]
    assert told[0] == f"point {nearest}" and told[2] == f"quarter: {quarter.names[quarter.values[nearest]]}"
    window.mouse({"type": "pointerMove", "x": round(left + 3), "y": round(top + 3), "duration": 0})
    assert window.run("return document.getElementById('label').style.display") == "none"


def test_of_two_points_behind_each_other_the_nearer_one_is_named(window, tmp_path):
    camera = Camera((0.0, -10.0, 0.0), (0.0, 0.0, 0.0))
    pos = np.array([[0, 3, 0], [0.01, -3, 0], [2, 0, 2], [-2, 0, -2]], dtype=np.float32)
    points = Points(pos, (Coloring("colour", np.zeros((4, 3), np.uint8)),))
    window.open(write_page(Scene((Pane("two", (points,)),), camera), tmp_path / "p.html"))
    left, top, side = window.run(RECTANGLES)[0]
    window.mouse({"type": "pointerMove", "x": round(left + side / 2), "y": round(top + side / 2), "duration": 0})
    assert window.run("return document.getElementById('label').textContent").startswith("point 1\n")


def test_a_legend_lists_what_occurs_in_any_set_and_nothing_without_names(window, tmp_path):
    table, names = np.array([[0, 0, 255], [255, 160, 0]], np.uint8), ("true", "predicted")
    kinds = [Coloring("skeleton", np.full(3, kind), table, names) for kind in (1, 0)]
    plain = Coloring("grey", np.zeros(3, int), np.array([[200, 200, 200]], np.uint8))
    sets = tuple(Points(torus(3), (each,)) for each in (plain, *kinds))
    window.open(write_page(scene(3)._replace(panes=(Pane("", sets),)), tmp_path / "p.html"))
    assert window.run("return document.getElementById('legends').innerText").split() == [
        "skeleton",
        "true",
        "predicted",
    ]
