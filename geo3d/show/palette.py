"""Colours that people with colour-blindness tell apart, as tables of 8-bit RGB."""

import numpy as np
from matplotlib import colormaps

INK, QUIET, FAINT = "#24292f", "#6e7781", "#e4e7eb"
"""Of text and frames."""
DISTINCT = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#2b2b2b", "#332288", "#882255",
    "#44aa99", "#999933", "#88ccee", "#aa4499", "#117733", "#ddcc77",
)  # fmt: skip
"""Eight colours of Okabe and Ito, black a little lighter, then eight of Tol's muted scheme."""
UNKNOWN = (200, 203, 207)
"""Of points without a label."""
COLORS = 48
"""Different colours of classes."""
DARKER = 0.62
"""Brightness of the colours from the 17th class on: those of the first sixteen come again, darker, then paler."""


def rgb(color: str) -> tuple[int, int, int]:
    """The 8-bit colour that ``#rrggbb`` names.

    Example:
        >>> rgb("#0072b2")
        (0, 114, 178)
    """
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def distinct(count: int) -> np.ndarray:
    """(count, 3) uint8 colours of classes; they repeat after :data:`COLORS`, and names tell the rest apart."""
    base = np.array([rgb(color) for color in DISTINCT], dtype=float)
    every = np.concatenate([base, base * DARKER, 255 - (255 - base) * (1 - DARKER)])
    return every[np.arange(count) % len(every)].round().astype(np.uint8)


def gradient(name: str = "cividis") -> np.ndarray:
    """(256, 3) uint8 colours from low to high; ``cividis`` looks alike with and without colour-blindness."""
    return (255 * colormaps[name](np.linspace(0, 1, 256))[:, :3]).round().astype(np.uint8)
