"""Pictures of points and lines without a graphics driver: discs with a depth buffer, shaded by depth."""

from collections.abc import Iterator

import numpy as np

from geo3d.show.scene import Camera, Pane

FINER = 2
"""Pixels are computed at this many times the size and averaged, which smooths edges."""
EDGE, DEEPEST = 6.0, 0.12
"""Strength of the shading by depth, and the step in depth, as a logarithm, from which it gets no darker."""
REACH = 3
"""How far, in finer pixels, a pixel looks for nearer neighbours."""
FADE = 0.3
"""Fraction of white in the farthest points."""
SMALLEST, LARGEST = 1.8, 9.0
"""Limits of the diameter of a point, in pixels."""
LINE = 1.6
"""Width of a line, in pixels."""
LONGEST = 10_000
"""Most places on one line."""
EMPTY = np.iinfo(np.int64).max


def point_size(count: int, side: float) -> float:
    """The diameter in pixels of ``count`` points in a picture of this side: they cover it well, and stay apart if few.

    Example:
        >>> round(point_size(1024, 640), 1), point_size(1_000_000, 640)
        (7.5, 1.8)
    """
    return float(np.clip(side / 85 * (max(count, 1) / 1024) ** -0.22, SMALLEST, LARGEST))


def splat(pane: Pane, camera: Camera, width: int, height: int, finer: int = FINER) -> np.ndarray:
    """(height, width, 3) uint8 picture of a pane on white; of each set of points it shows the first colouring.

    Args:
        pane: What is drawn.
        camera: Where it is seen from.
        width: Of the picture.
        height: Of the picture.
        finer: Pixels are computed this many times finer, and averaged.
    """
    size = (width * finer, height * finer)
    depth, color = _nearest(pane, camera, *size, finer, on_top=False)
    bright, white = _shade(depth, finer)
    color = (color * bright[..., None]) * (1 - white[..., None]) + 255 * white[..., None]
    above, over = _nearest(pane, camera, *size, finer, on_top=True)
    color = np.where(np.isfinite(above)[..., None], over, color)
    return color.reshape(height, finer, width, finer, 3).mean((1, 3)).round().astype(np.uint8)


def silhouette(pane: Pane, camera: Camera, width: int, height: int) -> np.ndarray:
    """(height, width) bool, the pixels that a point or a line covers."""
    layers = (_nearest(pane, camera, width, height, 1, on_top)[0] for on_top in (False, True))
    return np.isfinite(np.minimum(*layers))


def _nearest(
    pane: Pane, camera: Camera, width: int, height: int, finer: int, on_top: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(height, width) depth of what is nearest in each pixel, infinite where nothing is, and its colour (..., 3)."""
    keys, depths, colors, total = np.full(width * height, EMPTY), [np.empty(0)], [np.empty((0, 3))], 0
    for pixels, diameter, color in _marks(pane, camera, width, height, finer, on_top):
        _draw(keys, pixels, diameter, total, width, height)
        depths.append(pixels[:, 2])
        colors.append(color)
        total += len(pixels)
    hit = keys != EMPTY
    rows = keys[hit] & 0xFFFFFFFF
    depth, picture = np.full(width * height, np.inf), np.full((width * height, 3), 255.0)
    depth[hit], picture[hit] = np.concatenate(depths)[rows], np.concatenate(colors)[rows]
    return depth.reshape(height, width), picture.reshape(height, width, 3)


def _marks(
    pane: Pane, camera: Camera, width: int, height: int, finer: int, on_top: bool
) -> Iterator[tuple[np.ndarray, float, np.ndarray]]:
    """For each set of points or lines: pixels and depth (n, 3), the diameter of its discs, and colours (n, 3)."""
    count = sum(len(each.pos) for each in pane.points if not each.on_top)
    usual = point_size(count, min(width, height) / finer) * finer
    for points in pane.points:
        if points.on_top == on_top:
            yield camera.seen(points.pos, width, height), points.scale * usual, points.colorings[0].rgb()
    for lines in pane.lines:
        if lines.on_top == on_top and len(lines.ends):
            pixels = _along(camera.seen(lines.ends.reshape(-1, 3), width, height).reshape(-1, 2, 3))
            yield pixels, LINE * finer, np.broadcast_to(np.array(lines.color, float), (len(pixels), 3))


def _along(ends: np.ndarray) -> np.ndarray:
    """(n, 3) places on lines (L, 2, 3) of the picture, at most a pixel apart; 1 / depth is linear along a line."""
    ends = ends[(ends[:, :, 2] > 0).all(1)]
    far = np.abs(ends[:, 1, :2] - ends[:, 0, :2]).max(1)
    steps = np.minimum(np.ceil(far), LONGEST).astype(int) + 1
    which = np.repeat(np.arange(len(ends)), steps)
    first = np.repeat(np.cumsum(steps) - steps, steps)
    part = ((np.arange(len(which)) - first) / np.maximum(steps[which] - 1, 1))[:, None]
    flat = np.concatenate([ends[:, :, :2], 1 / ends[:, :, 2:]], 2)
    there = flat[which, 0] * (1 - part) + flat[which, 1] * part
    return np.concatenate([there[:, :2], 1 / there[:, 2:]], 1)


def _draw(keys: np.ndarray, pixels: np.ndarray, diameter: float, first: int, width: int, height: int) -> None:
    """Put discs into the depth buffer: a key is the depth, as the bits of a float, and then the number of the disc."""
    inside = (pixels[:, 2] > 0) & (np.abs(pixels[:, :2]) < 1e6).all(1)
    x, y, depth = pixels[inside].T
    key = depth.astype(np.float32).view(np.int32).astype(np.int64) << 32 | (np.flatnonzero(inside) + first)
    left, top = (np.ceil(each - diameter / 2 - 0.5).astype(np.int64) for each in (x, y))
    reach = range(int(np.ceil(diameter)) + 1)
    for down in reach:
        for right in reach:
            column, row = left + right, top + down
            away = np.square(column + 0.5 - x) + np.square(row + 0.5 - y)
            hit = (away <= diameter**2 / 4) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
            np.minimum.at(keys, row[hit] * width + column[hit], key[hit])


def _shade(depth: np.ndarray, finer: int) -> tuple[np.ndarray, np.ndarray]:
    """(height, width) brightness, darker beside nearer neighbours, and how much white distance adds."""
    hit = np.isfinite(depth)
    if not hit.any():
        return np.ones_like(depth), np.zeros_like(depth)
    near, far = depth[hit].min(), depth[hit].max()
    log = np.log2(depth)
    behind, reach = np.zeros_like(depth), REACH * finer // 2
    padded = np.pad(log, reach, constant_values=np.inf)
    height, width = depth.shape
    with np.errstate(invalid="ignore"):
        for down, right in ((0, -1), (0, 1), (-1, 0), (1, 0)):
            there = padded[reach * (1 + down) :, reach * (1 + right) :][:height, :width]
            behind += np.where(hit, np.maximum(log - there, 0), 0)
    white = np.where(hit, FADE * (depth - near) / max(far - near, 1e-12), 0)
    return np.exp(-EDGE * np.minimum(behind, DEEPEST)), white
