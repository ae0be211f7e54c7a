"""Which class was taken for which: a picture, and a table of the classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from geo3d.errors import ConfigError
from geo3d.io.files import replacing

INK, PAPER = "#24292f", "#ffffff"
WRITTEN = 25
"""Up to this many classes the fractions are written into the picture."""


def plot_confusion(counts: Sequence[Sequence[int]], names: Sequence[str], path: str | Path) -> Path:
    """The picture that was written: for each true class the fractions of its points by predicted class.

    Classes without a point stay empty.

    Args:
        counts: Of each true class, how many points were given each class.
        names: The classes.
        path: The PNG file.

    Raises:
        ConfigError: If counts and names do not fit.
    """
    table = np.asarray(counts, dtype=np.float64)
    if table.shape != (len(names), len(names)) or not len(names):
        raise ConfigError(f"expected counts ({len(names)}, {len(names)}), one row per class; found {table.shape}")
    total = table.sum(1, keepdims=True)
    fraction = np.divide(table, total, out=np.full_like(table, np.nan), where=total > 0)
    side = 2.2 + 0.38 * len(names)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(fraction, cmap="cividis", vmin=0, vmax=1)
    if len(names) <= WRITTEN:
        for i, j in zip(*np.nonzero(np.nan_to_num(fraction) >= 0.005), strict=True):
            color = PAPER if fraction[i, j] < 0.55 else INK
            axes.text(j, i, f"{100 * fraction[i, j]:.0f}", ha="center", va="center", fontsize=7, color=color)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    figure.colorbar(image, ax=axes, shrink=0.7, label="fraction of the true class")
    with replacing(path) as draft, draft.open("wb") as file:
        figure.savefig(file, format="png", dpi=120)
    return Path(path)


def class_table(class_iou: Mapping[str, float | None], counts: Sequence[Sequence[int]]) -> str:
    """A line for each class: IoU in percent, and how many points truly belong to it.

    Example:
        >>> print(class_table({"wall": 0.875, "door": None}, [[7, 0], [0, 0]]))
        class  IoU %  points
        wall    87.5       7
        door       -       0
    """
    rows = [("class", "IoU %", "points")]
    for (name, iou), row in zip(class_iou.items(), counts, strict=True):
        rows.append((name, "-" if iou is None else f"{100 * iou:.1f}", str(sum(row))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].rjust(widths[2])]) for row in rows
    )
