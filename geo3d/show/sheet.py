"""Sheets of small pictures of clouds, one row per class."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from geo3d.errors import CloudError
from geo3d.io.files import replacing

LIGHT = np.array([0.3, -0.55, 0.78])
LONGEST = 11
"""Characters that fit beside a row of clouds; longer names are wrapped."""
TINT = np.array([0.36, 0.55, 0.78])


def project(pos: np.ndarray, azimuth: float = -55.0, elevation: float = 24.0) -> np.ndarray:
    """(N, 3) coordinates in the picture, to the right, upwards and towards the eye, of clouds with z up.

    The angles are in degrees.

    Example:
        >>> project(np.array([[0.0, 0.0, 1.0]]), elevation=0.0).round(3).tolist()
        [[0.0, 1.0, 0.0]]
    """
    a, e = np.radians((azimuth, elevation))
    right = np.array([-np.sin(a), np.cos(a), 0])
    eye = np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
    return pos @ np.stack([right, np.cross(eye, right), eye], axis=1)


def picture_sheet(
    clouds: Mapping[str, Sequence[Tensor]],
    path: str | Path,
    colors: Mapping[str, Sequence[Tensor]] | None = None,
) -> None:
    """Write a PNG file with one row of clouds per class, seen from above at an angle.

    Args:
        clouds: For every class the clouds to show: (N, 3) points, or (N, 6) points with normals, which shade
            them. Without normals, near points are dark and far points pale.
        path: The file to write; it appears only when it is complete.
        colors: For every class and cloud (N, 3) colours between 0 and 1, used instead of the default blue.

    Raises:
        CloudError: If there is nothing to show or a cloud has another shape.
    """
    if not clouds or not any(len(row) for row in clouds.values()):
        raise CloudError(f"{path}: no clouds for the picture sheet; give at least one")
    columns = 2 if len(clouds) > 8 else 1
    rows, across = -(-len(clouds) // columns), max(len(row) for row in clouds.values())
    label, tile, gap, margin = 0.95, 1.0, 0.3, 0.08
    width = columns * (label + across * tile) + (columns - 1) * gap + 2 * margin
    height = rows * tile + 2 * margin
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    for i, (name, row) in enumerate(clouds.items()):
        left = margin + (i // rows) * (label + across * tile + gap)
        middle = height - margin - (i % rows + 0.5) * tile
        axes.text(left + label - 0.08, middle, _lines(name), ha="right", va="center", fontsize=10)
        for j, cloud in enumerate(row):
            spot, shade = _shaded(cloud, None if colors is None else colors[name][j], f"{path}: {name} {j}")
            x, y = left + label + (j + 0.5) * tile, middle
            size = 4200.0 / max(len(spot), 600)
            axes.scatter(x + 0.47 * spot[:, 0], y + 0.47 * spot[:, 1], s=size, c=shade, linewidths=0)
    with replacing(path) as draft, draft.open("wb") as file:
        FigureCanvasAgg(figure).print_png(file)


def _lines(name: str) -> str:
    """The name of a class, wrapped to short lines; a long one often is a folder name, with underscores for spaces."""
    return textwrap.fill(name.replace("_", " ") if len(name) > LONGEST else name, LONGEST)


def _shaded(cloud: Tensor, color: Tensor | None, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n, 2) and colours (n, 3) of the visible points, the nearest last."""
    data = cloud.detach().cpu().double().numpy()
    if data.ndim != 2 or data.shape[1] not in (3, 6) or not len(data):
        raise CloudError(f"{source}: expected points (N, 3) or points with normals (N, 6), found {tuple(data.shape)}")
    pos = data[:, :3] - (data[:, :3].min(0) + data[:, :3].max(0)) / 2
    spot = project(pos / max(np.sqrt((pos * pos).sum(1)).max(), 1e-12))
    if data.shape[1] == 6:
        # a thin surface has two sides: light the one that faces the viewer
        normal = data[:, 3:] * np.where(project(data[:, 3:])[:, 2:] < 0, -1, 1)
        light = 0.42 + 0.58 * np.clip(normal @ (LIGHT / np.linalg.norm(LIGHT)), 0, 1)
    else:
        light = 0.55 + 0.4 * (spot[:, 2].max() - spot[:, 2]) / max(float(np.ptp(spot[:, 2])), 1e-12)
    tint = np.broadcast_to(TINT, (len(spot), 3)) if color is None else color.detach().cpu().double().numpy()
    shade = np.clip(light[:, None] * (tint + 0.25 * light[:, None] ** 2), 0, 1)
    order = np.argsort(spot[:, 2])
    order = order[_seen(spot)[order]]
    return spot[order, :2], shade[order]


def _seen(spot: np.ndarray) -> np.ndarray:
    """(N,) bool: which points are not far behind another point in the same small square of the picture."""
    squares = max(8, int(0.45 * np.sqrt(len(spot))))
    cell = np.clip((spot[:, :2] + 1) / 2 * squares, 0, squares - 1).astype(int)
    near = np.full((squares, squares), -np.inf)
    np.maximum.at(near, (cell[:, 0], cell[:, 1]), spot[:, 2])
    return spot[:, 2] > near[cell[:, 0], cell[:, 1]] - 4.0 / squares
