"""Pages: no network, small, and the points in them are those of the scene."""

import base64
import json
import re

import numpy as np
import pytest
from support.torus import scene, torus

from geo3d.show.page import write_page
from geo3d.show.palette import distinct
from geo3d.show.scene import Coloring, Pane, Points, Scene, camera_around


def read(path) -> tuple[dict, bytes]:
    text = path.read_text()
    described = json.loads(re.search(r'<script type="application/json" id="scene">(.*?)</script>', text, re.S)[1])
    return described, base64.b64decode(re.search(r'id="arrays">(.*?)</script>', text, re.S)[1])


def array(content: bytes, kind: str, start: int, count: int) -> np.ndarray:
    assert start % 4 == 0
    return np.frombuffer(content, kind, count, start)


@pytest.mark.parametrize("count", [1, 2, 999])
def test_the_points_are_those_of_the_scene(tmp_path, count):
    drawn = scene(count, 2)
    described, content = read(write_page(drawn, tmp_path / "p.html"))
    for pane, source in zip(described["panes"], drawn.panes, strict=True):
        (points,), (given,) = pane["points"], source.points
        steps = array(content, "<u2", points["pos"], 3 * count).reshape(-1, 3)
        pos = np.array(points["low"]) + steps * np.array(points["span"]) / 65535
        np.testing.assert_allclose(pos, given.pos, atol=1e-4)
        for coloring, original in zip(points["colorings"], given.colorings, strict=True):
            np.testing.assert_array_equal(array(content, "u1", coloring["start"], count), original.values)
            table = [[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in coloring["table"]]
            assert table == original.table.tolist()
        assert pane["title"] == source.title and pane["texts"][0]["text"] == "axis"
        assert pane["lines"][0]["ends"] == source.lines[0].ends.ravel().tolist()
    assert described["notes"] == ["a note"] and described["camera"]["eye"] == list(drawn.camera.eye)


def test_a_page_needs_no_network_and_has_no_address(tmp_path):
    text = write_page(scene(50), tmp_path / "p.html", "a <title> & more").read_text()
    assert "http" not in text and "//cdn" not in text and "src=" not in text
    assert "<title>a &lt;title&gt; &amp; more</title>" in text and "{{" not in text


def test_names_cannot_end_the_script(tmp_path):
    drawn = scene(50)
    pane = drawn.panes[0]._replace(title="</script><script>alert(1)</script>")
    path = write_page(drawn._replace(panes=(pane,), notes=("{{arrays}} {{title}}",)), tmp_path / "p.html")
    described, _ = read(path)
    assert described["panes"][0]["title"] == pane.title and described["notes"] == ["{{arrays}} {{title}}"]
    assert path.read_text().count("<script") == 3


@pytest.mark.parametrize("count", [200_000, 700_000])
def test_pages_stay_below_three_megabytes(tmp_path, count):
    colorings = (
        Coloring("colour", np.zeros((count, 3), np.uint8)),
        Coloring("label", np.arange(count) % 5, distinct(5), tuple("abcde")),
    )[: 1 if count == 200_000 else 2]
    drawn = Scene((Pane("", (Points(torus(count), colorings),)),), camera_around(torus(9)))
    path = write_page(drawn, tmp_path / "p.html")
    assert path.stat().st_size <= 3_000_000
    described, content = read(path)
    points = described["panes"][0]["points"][0]
    if count == 200_000:
        assert points["count"] == count and points["numbers"] is None and described["notes"] == []
        return
    assert described["notes"] == [f"This page shows {points['count']:,} of 700,000 points."]
    assert points["count"] > 150_000
    numbers = array(content, "<u2", points["numbers"], points["count"]).astype(np.int64).cumsum()
    labels = array(content, "u1", points["colorings"][1]["start"], points["count"])
    np.testing.assert_array_equal(labels, numbers % 5)
    steps = array(content, "<u2", points["pos"], 3 * points["count"]).reshape(-1, 3)
    pos = np.array(points["low"]) + steps * np.array(points["span"]) / 65535
    np.testing.assert_allclose(pos, torus(count)[numbers], atol=1e-4)


def test_more_than_256_classes_and_far_apart_numbers_are_kept(tmp_path):
    values, numbers = np.arange(300), np.arange(300) * 100_000
    coloring = Coloring("label", values, distinct(300), tuple(map(str, values)))
    points = Points(torus(300), (coloring,), numbers=numbers)
    described, content = read(write_page(Scene((Pane("", (points,)),), camera_around(torus(9))), tmp_path / "p.html"))
    stored = described["panes"][0]["points"][0]
    np.testing.assert_array_equal(array(content, "<u2", stored["colorings"][0]["start"], 300), values)
    assert stored["colorings"][0]["wide"] and stored["numbersWide"]
    np.testing.assert_array_equal(array(content, "<u4", stored["numbers"], 300).cumsum(), numbers)


def test_a_small_set_of_points_stays_in_a_page_that_is_thinned(tmp_path):
    white = [Coloring("colour", np.full((count, 3), 255, np.uint8)) for count in (700_000, 1)]
    sets = tuple(Points(torus(len(each.values)), (each,)) for each in white)
    described, _ = read(write_page(Scene((Pane("", sets),), camera_around(torus(9))), tmp_path / "p.html"))
    assert [each["count"] for each in described["panes"][0]["points"]][1:] == [1]
