"""Plausible colours of walls, floors, furniture and small things."""

import colorsys

import numpy as np

from geo3d.data.shapes.mesh import Array, array
from geo3d.data.shapes.placing import PARTS, Draws


def _color(hue: float, saturation: float, value: float) -> Array:
    """(3,) red, green and blue of a hue in degrees."""
    return array(colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value))


def white(d: Draws) -> Array:
    """An off-white, as of ceilings."""
    return _color(d.real(20, 60), d.real(0, 0.06), d.real(0.82, 0.95))


def paint(d: Draws) -> Array:
    """The paint of a wall: mostly off-white, sometimes a pale or a strong colour."""
    kind = d.pick("white", "white", "white", "cream", "pale", "pale", "strong")
    if kind == "white":
        return _color(d.real(20, 60), d.real(0, 0.08), d.real(0.72, 0.92))
    if kind == "cream":
        return _color(d.real(30, 50), d.real(0.1, 0.3), d.real(0.7, 0.9))
    return _color(d.real(0, 360), d.real(0.08, 0.25) if kind == "pale" else d.real(0.3, 0.6), d.real(0.5, 0.85))


def wood(d: Draws) -> Array:
    """Wood, from pale birch to dark walnut."""
    return _color(d.real(18, 40), d.real(0.25, 0.65), d.real(0.22, 0.8))


def grey(d: Draws) -> Array:
    """A grey between black and white, as of plastic, stone and metal."""
    return _color(d.real(0, 360), d.real(0, 0.1), d.real(0.08, 0.85))


def fabric(d: Draws) -> Array:
    """Fabric: any hue, mostly dull."""
    return _color(d.real(0, 360), d.real(0, 0.6), d.real(0.15, 0.75))


def bright(d: Draws) -> Array:
    """A strong colour, as of small things."""
    return _color(d.real(0, 360), d.real(0.3, 0.9), d.real(0.3, 0.95))


def leaf(d: Draws) -> Array:
    """The green of leaves."""
    return _color(d.real(75, 130), d.real(0.4, 0.8), d.real(0.2, 0.55))


def ground(d: Draws) -> Array:
    """A floor: wood, carpet, tiles or stone."""
    return d.pick(wood, wood, fabric, grey, grey)(d)


MATERIALS = {
    "chair": (wood, wood, fabric, fabric, grey),
    "table": (wood, wood, wood, grey, white),
    "sofa": (fabric,),
    "bed": (fabric, white, wood),
    "shelf": (wood, wood, white),
    "cabinet": (wood, wood, white, grey),
    "lamp": (white, grey, fabric),
    "plant": (leaf,),
    "monitor": (grey,),
    "piano": (grey, wood),
    "bathtub": (white,),
    "toilet": (white,),
    "clutter": (bright, bright, white, grey),
}
"""What things of a class are made of."""


def part_colors(label: str, parts: np.ndarray, d: Draws) -> Array:
    """(F, 3) a colour for each triangle of a thing: one material for most of its parts, sometimes another for one.

    Args:
        label: Its class.
        parts: (F,) the part of each triangle.
        d: The draws.
    """
    main = d.pick(*MATERIALS[label])(d)
    colors = np.repeat(main[None], len(parts), axis=0)
    for part in np.unique(parts).tolist():
        if d.chance(0.4):
            colors[parts == part] = d.pick(*MATERIALS[label], grey, wood)(d) if label != "plant" else wood(d)
    if label == "plant":
        colors[parts == PARTS.index("soft")] = leaf(d)
    return colors
