"""A scene as a PNG file, drawn without a graphics driver and the same each time."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from geo3d.io.files import replacing
from geo3d.show.palette import FAINT, INK, QUIET
from geo3d.show.scene import Camera, Coloring, Pane, Scene
from geo3d.show.splat import splat

DPI = 100
SIDE, WIDEST, NARROWEST = 560, 1680, 480
"""Side of a pane, the width that all panes may have together, and that of a whole picture, in pixels."""
LEGEND, TITLE, LINE, GAP = 190, 30, 19, 12
"""Width of the legend, height of a title, of a line of text, and margins, in pixels."""
CHARACTER = 7.4
"""Width of a character of a note, in pixels, on average."""
LISTED = 24
"""Most names in a legend."""
LONGEST = 24
"""Most characters of a name in the legend."""
AXES = (("x", "#d55e00"), ("y", "#009e73"), ("z", "#0072b2"))


Painter = Callable[[Pane, Camera, int, int], np.ndarray]
"""Makes the picture (height, width, 3) uint8 of a pane under a camera, of this width and height."""


def write_png(scene: Scene, path: str | Path, painter: Painter = splat) -> Path:
    """The path of the PNG file with all panes, their titles and axes, the legends, and the notes below.

    Args:
        scene: What is drawn.
        path: Where to write; the file appears only when it is complete.
        painter: Draws the panes.
    """
    columns = scene.columns or len(scene.panes)
    rows = -(-len(scene.panes) // columns)
    side = min(SIDE, WIDEST // columns)
    legends = scene.legends()
    right = columns * (side + GAP) + GAP
    width = max(right + (LEGEND if legends else 0), NARROWEST)
    notes = [line for note in scene.notes for line in textwrap.wrap(note, int((width - 2 * GAP) / CHARACTER))]
    below = LINE * len(notes) + GAP
    height = below + rows * (side + TITLE)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    for number, pane in enumerate(scene.panes):
        left, bottom = GAP + number % columns * (side + GAP), height - (number // columns + 1) * (side + TITLE)
        figure.figimage(painter(pane, scene.camera, side, side), left, bottom, origin="upper", zorder=-1)
        _frame(axes, scene, pane, left, bottom, side)
    _legends(axes, legends, right, height - TITLE)
    for number, line in enumerate(notes):
        axes.text(GAP, below - 6 - LINE * number, line, fontsize=9, color=QUIET, va="top")
    with replacing(path) as draft, draft.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return Path(path)


def _frame(axes: Axes, scene: Scene, pane: Pane, left: int, bottom: int, side: int) -> None:
    """Draw title, border, words and, if asked, axes of the pane whose lower left corner is there."""
    axes.add_patch(Rectangle((left, bottom), side, side, fill=False, edgecolor=FAINT, linewidth=0.8))
    title = textwrap.shorten(pane.title, side // 7, placeholder=" ...")
    axes.text(left + 2, bottom + side + 8, title, fontsize=10.5, color=INK, va="bottom")
    for text in pane.texts:
        x, y, depth = scene.camera.seen(np.array([text.pos]), side, side)[0]
        if depth > 0 and 0 <= x <= side and 0 <= y <= side:
            axes.text(left + x + 5, bottom + side - y + 5, text.text, fontsize=9, color=INK, clip_on=True)
    if not scene.axes:
        return
    reach = min(0.07 * side, 32)
    corner = np.array([left, bottom]) + reach + 12
    for (name, color), way in zip(AXES, scene.camera.axes().T[:, :2], strict=True):
        tip = corner + reach * way
        axes.plot(*np.stack([corner, tip]).T, color=color, linewidth=1.4, solid_capstyle="round")
        x, y = tip + 7 * way
        axes.text(x, y, name, fontsize=8, color=color, ha="center", va="center")


def _legends(axes: Axes, legends: Sequence[Coloring], left: float, top: float) -> None:
    """Draw names beside their colours, or a scale of colours with its limits."""
    limits = axes.get_xlim(), axes.get_ylim()  # imshow changes them
    for coloring in legends:
        assert coloring.table is not None
        axes.text(left, top, coloring.name, fontsize=9.5, color=INK, va="top")
        top -= LINE + 6
        if coloring.limits is not None:
            scale = np.broadcast_to(coloring.table[:, None], (len(coloring.table), 1, 3))
            axes.imshow(scale, extent=(left, left + 16, top - 160, top), origin="lower", aspect="auto")
            axes.set_xlim(limits[0])
            axes.set_ylim(limits[1])
            for limit, y in zip(coloring.limits, (top - 160, top), strict=True):
                axes.text(left + 22, y, f"{limit:.4g}", fontsize=8.5, color=INK, va="center")
            top -= 160 + 2 * GAP
            continue
        shown = coloring.names[:LISTED]
        for name, color in zip(shown, coloring.table, strict=False):
            axes.add_patch(Rectangle((left, top - 13), 13, 13, facecolor=color / 255, linewidth=0))
            label = textwrap.shorten(name, LONGEST, placeholder=" ...") if " " in name else name[:LONGEST]
            axes.text(left + 20, top - 6.5, label, fontsize=9, color=INK, va="center")
            top -= LINE
        if len(coloring.names) > LISTED:
            axes.text(left, top - 6.5, f"and {len(coloring.names) - LISTED} more", fontsize=9, color=QUIET, va="center")
            top -= LINE
        top -= GAP
