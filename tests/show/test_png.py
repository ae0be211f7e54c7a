"""PNG files of scenes: size, parts, and the same bytes each time."""

import numpy as np
import pytest
from matplotlib.image import imread
from support.torus import scene

from geo3d.show import png
from geo3d.show.png import write_png
from geo3d.show.scene import Points
from geo3d.show.splat import splat


@pytest.mark.parametrize(("panes", "columns"), [(1, 0), (3, 0), (5, 3)])
def test_all_panes_titles_and_legends_have_their_place(tmp_path, panes, columns):
    drawn = scene(500, panes)._replace(columns=columns)
    picture = imread(write_png(drawn, tmp_path / "p.png"))[..., :3]
    across, down = columns or panes, -(-panes // (columns or panes))
    side = min(png.SIDE, png.WIDEST // across)
    right = across * (side + png.GAP) + png.GAP
    assert picture.shape[1] == right + png.LEGEND
    assert picture.shape[0] == down * (side + png.TITLE) + png.LINE + png.GAP
    ink = picture.min(2) < 0.9
    for number in range(panes):
        top, left = number // across * (side + png.TITLE), png.GAP + number % across * (side + png.GAP)
        assert ink[top + 4 : top + png.TITLE - 4, left : left + 80].any()  # the title
        inside = 255 * picture[top + png.TITLE :, left:][: side - 1, 1 : side - 1]
        expected = splat(drawn.panes[number], drawn.camera, side, side)[: side - 1, 1 : side - 1]
        middle = slice(side // 4, side // 2)  # without axes and words
        np.testing.assert_allclose(inside[middle, side // 4 :], expected[middle, side // 4 :], atol=1)
    assert ink[:, right:].any() and ink[-png.LINE :, :60].any()  # legend and note


def test_files_are_the_same_each_time(tmp_path):
    first, second = (write_png(scene(500, 2), tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second


def test_long_titles_names_and_notes_stay_inside(tmp_path):
    drawn = scene(200)
    points = drawn.panes[0].points[0]
    names = tuple(f"a class with a very long name, number {number}" for number in range(4)) + ("x" * 200,)
    coloring = points.colorings[1]._replace(names=names, table=np.zeros((5, 3), np.uint8))
    pane = drawn.panes[0]._replace(title="word " * 100, points=(points._replace(colorings=(coloring,)),))
    picture = imread(write_png(drawn._replace(panes=(pane,), notes=("note " * 200,)), tmp_path / "p.png"))
    assert (picture[:, -2:, :3] > 0.99).all()
    assert picture.shape[0] > png.SIDE + png.TITLE + 3 * png.LINE


def test_a_long_legend_says_how_many_names_it_leaves_out(tmp_path):
    drawn = scene(300)
    points = drawn.panes[0].points[0]
    many = points.colorings[1]._replace(
        values=np.arange(300) % 40, names=tuple(map(str, range(40))), table=np.zeros((40, 3), np.uint8)
    )
    pane = drawn.panes[0]._replace(points=(Points(points.pos, (many,)),))
    picture = imread(write_png(drawn._replace(panes=(pane,)), tmp_path / "p.png"))
    right = png.SIDE + 2 * png.GAP
    squares = (picture[:, right + 2 : right + 10, :3] < 0.05).all((1, 2))
    assert (np.diff(squares.astype(int)) == 1).sum() == png.LISTED
