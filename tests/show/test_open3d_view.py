"""Scenes in Open3D: its pictures beside ours, and its window under a virtual screen."""

import re
import subprocess
import sys

import numpy as np
import pytest
from support.screen import screen
from support.torus import pane, scene, torus

from geo3d.errors import ConfigError
from geo3d.show.open3d_view import check_open3d, described, open3d_picture
from geo3d.show.scene import camera_around
from geo3d.show.splat import silhouette


@pytest.fixture
def open3d():
    """Skip where Open3D cannot draw."""
    try:
        check_open3d(visible=False)
    except ConfigError as error:
        pytest.skip(str(error))


def test_pictures_have_the_silhouette_of_ours(open3d):
    for count, least in ((3_000, 0.8), (200_000, 0.97)):
        only = pane(count)._replace(lines=())
        camera = camera_around(torus(count))
        theirs = open3d_picture(only, camera, 560, 560).min(2) < 250
        own = silhouette(only, camera, 560, 560)
        assert (own & theirs).sum() / (own | theirs).sum() >= least


def test_joints_are_balls_and_bones_are_lines(open3d):
    drawn = scene(500)
    points = drawn.panes[0].points[0]
    few = points._replace(
        pos=points.pos[:5], colorings=(points.colorings[1]._replace(values=np.zeros(5, int)),), scale=3
    )
    picture = open3d_picture(drawn.panes[0]._replace(points=(few,)), drawn.camera, 400, 400).astype(int)
    balls = np.abs(picture - [0, 114, 178]).max(2) < 12
    bones = np.abs(picture - [200, 30, 30]).max(2) < 12
    assert balls.sum() > 5 * 20 and bones.sum() > 50


def test_a_missing_package_and_a_missing_library_are_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    lines = ("raise ModuleNotFoundError(\"No module named 'open3d'\", name='open3d')",
             "raise ImportError('libusb-1.0.so.0: cannot open shared object file')",
             "import os; os.abort()")  # fmt: skip
    for line, message in zip(lines, ("pip install 'geo3d\\[inspect\\]'", "libusb-1.0.so.0", "status -6"), strict=True):
        (tmp_path / "open3d.py").write_text(line)
        with pytest.raises(ConfigError, match=f"{message}.*give out=NAME.png"):
            check_open3d(visible=False)


def test_a_window_that_never_opens_is_said(monkeypatch):
    monkeypatch.setattr("geo3d.show.open3d_view.SECONDS", 0.001)
    with pytest.raises(ConfigError, match="opened no window within 0.001 s; give out=NAME.png"):
        check_open3d(visible=False)


def test_what_is_known_of_a_point():
    drawn = pane(10)
    points = drawn.points[0]._replace(numbers=np.arange(10) * 7)
    text = described(drawn, points, 3)
    quarter = points.colorings[1]
    assert text.startswith("torus: point 21; at ") and text.endswith(f"quarter {quarter.names[quarter.values[3]]}")
    assert re.search(r"height -?0\.\d+", text)


def test_the_window_shows_the_scene_and_heeds_its_keys(open3d, tmp_path):
    words = [sys.executable, "-m", "geo3d", "inspect", "data=shapes", "data.size=20"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with screen(tmp_path) as shown, subprocess.Popen(words, env=shown.env, **pipes) as program:
        try:
            use(shown)
            output, errors = program.communicate(timeout=60)
        finally:
            program.kill()
    assert program.returncode == 0, errors
    assert re.search(r"cloud 1 of the test split: point \d+; at .*height", output)
    assert output.count("points; extent") == 2  # of the first cloud and of the next


def use(shown) -> None:
    """Change the colours, go to the next sample, pick a point there, close the window."""
    shown.window("cloud 0 of the test split")
    shown.until(lambda: int(drawn(shown).sum()) > 2000)
    first = shown.picture().astype(int)
    shown.tool("key", "c")
    shown.until(lambda: np.abs(shown.picture().astype(int) - first).max(2).mean() > 0.5)
    shown.tool("key", "n")
    shown.window("cloud 1 of the test split")
    shown.tool("key", "p")
    picking = shown.window("pick")
    pixels = np.argwhere(drawn(shown))
    row, column = pixels[np.square(pixels - pixels.mean(0)).sum(1).argmin()]
    shown.tool("mousemove", str(column), str(row))
    for step in (("keydown", "shift"), ("mousedown", "1"), ("mouseup", "1"), ("keyup", "shift")):
        shown.tool(*step)
    shown.tool("windowfocus", picking)
    shown.tool("key", "q")
    shown.window("N next")
    shown.tool("key", "q")


def drawn(shown) -> np.ndarray:
    """Which pixels of the screen are neither the white of the window nor the black around it."""
    picture = shown.picture().astype(int)
    return (picture.max(2) > 20) & (picture.min(2) < 250)
