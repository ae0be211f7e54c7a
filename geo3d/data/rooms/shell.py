"""The room itself: floor, ceiling, and walls with a door, windows, pictures and curtains."""

import math
from typing import NamedTuple

import numpy as np

from geo3d.data.rooms import colors
from geo3d.data.rooms.thing import Area, Thing, box, rectangle
from geo3d.data.shapes.mesh import Array, array
from geo3d.data.shapes.placing import Draws


class Opening(NamedTuple):
    """A door or a window in a wall: where it begins and ends along the wall, and below and above."""

    label: str
    start: float
    stop: float
    low: float
    high: float
    swing: float = 0.0
    """How far a door stands open into the room, in radians; its hinges are at the stop, or at the start if negative."""


class Wall(NamedTuple):
    """One of the four walls, seen from inside: it runs from ``start`` to its right."""

    start: tuple[float, float]
    along: tuple[float, float]
    inward: tuple[float, float]
    length: float
    openings: list[Opening]

    def at(self, distance: float, depth: float, height: float) -> tuple[float, float, float]:
        """The point this far along the wall, this far in front of it, and this high."""
        return (
            self.start[0] + distance * self.along[0] + depth * self.inward[0],
            self.start[1] + distance * self.along[1] + depth * self.inward[1],
            height,
        )

    @property
    def angle(self) -> float:
        """The angle by which a thing is turned so that its back, +y, is at the wall."""
        return math.atan2(self.inward[0], -self.inward[1])

    def area(self, start: float, stop: float, depth: float, height: float = math.inf) -> Area:
        """The floor in front of a part of the wall."""
        (x, y, _), (u, v, _) = self.at(start, 0, 0), self.at(stop, depth, 0)
        return Area(min(x, u), max(x, u), min(y, v), max(y, v), height)


class Shell(NamedTuple):
    """A room without furniture: ``width`` along x, ``depth`` along y, from the corner at the origin."""

    width: float
    depth: float
    height: float
    walls: list[Wall]


def shell(d: Draws, width: float, depth: float) -> Shell:
    """A room of this size, with one door and up to two windows in other walls."""
    height = d.real(2.35, 3.1)
    sides = [
        ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), width),
        ((width, 0.0), (0.0, 1.0), (-1.0, 0.0), depth),
        ((width, depth), (-1.0, 0.0), (0.0, -1.0), width),
        ((0.0, depth), (0.0, -1.0), (1.0, 0.0), depth),
    ]
    walls = [Wall(start, along, inward, length, []) for start, along, inward, length in sides]
    order = d.rng.permutation(4).tolist()
    wide = d.real(0.8, 1.0)
    start = d.real(0.15, walls[order[0]].length - wide - 0.15)
    high, swing = d.real(1.95, 2.1), d.pick(-1.0, 1.0) * (d.real(0.3, 1.5) if d.chance(0.4) else 0.0)
    walls[order[0]].openings.append(Opening("door", start, start + wide, 0.0, high, swing))
    for wall in (walls[each] for each in order[1 : 1 + d.pick(0, 1, 1, 2)]):
        wide = min(d.real(0.8, 2.4), wall.length - 0.8)
        start, low = d.real(0.3, wall.length - wide - 0.3), d.pick(0.1, 0.8, 0.9, 1.0)
        wall.openings.append(Opening("window", start, start + wide, low, min(d.real(1.9, 2.3), height - 0.15)))
    return Shell(width, depth, height, walls)


def _painted(label: str, corner: Array, color: Array) -> Thing:
    return Thing(label, corner, np.repeat(color[None], len(corner), axis=0))


def surfaces(shell: Shell, d: Draws) -> list[Thing]:
    """Floor, ceiling, and each wall with what fills its openings."""
    w, t, h = shell.width, shell.depth, shell.height
    things = [
        _painted("floor", rectangle((0, 0, 0), (w, 0, 0), (0, t, 0)), colors.ground(d)),
        _painted("ceiling", rectangle((0, 0, h), (0, t, 0), (w, 0, 0)), colors.white(d)),
    ]
    paint, accent = colors.paint(d), colors.paint(d)
    for number, wall in enumerate(shell.walls):
        color = accent if number == 0 and d.chance(0.3) else paint
        things.append(_painted("wall", _wall(wall, h), color))
        for opening in wall.openings:
            things.append(_door(wall, opening, d) if opening.label == "door" else _window(wall, opening, d))
    return things


def _panel(wall: Wall, start: float, stop: float, low: float, high: float, depth: float = 0.0) -> Array:
    """(2, 3, 3) a rectangle parallel to the wall."""
    dx, dy = ((stop - start) * side for side in wall.along)
    return rectangle(wall.at(start, depth, low), (dx, dy, 0), (0, 0, high - low))


def _slab(wall: Wall, start: float, stop: float, low: float, high: float, back: float, front: float) -> Array:
    """(12, 3, 3) a box that lies along the wall, between two distances in front of it."""
    a, b = wall.at(start, back, low), wall.at(stop, front, high)
    return box(
        (min(a[0], b[0]), min(a[1], b[1]), low),
        (max(a[0], b[0]), max(a[1], b[1]), high),
    )


def _wall(wall: Wall, height: float) -> Array:
    """The triangles of a wall around its openings, with the sides of these."""
    pieces, reached = [], 0.0
    for o in sorted(wall.openings, key=lambda each: each.start):
        pieces.append(_panel(wall, reached, o.start, 0, height))
        pieces.append(_panel(wall, o.start, o.stop, o.high, height))
        if o.low > 0:
            pieces.append(_panel(wall, o.start, o.stop, 0, o.low))
        recess = tuple(-0.12 * side for side in wall.inward)
        for place in (o.start, o.stop):
            pieces.append(rectangle(wall.at(place, 0, o.low), (*recess, 0), (0, 0, o.high - o.low)))
        along = tuple((o.stop - o.start) * side for side in wall.along)
        for level in (o.low, o.high):
            pieces.append(rectangle(wall.at(o.start, 0, level), (*recess, 0), (*along, 0)))
        reached = o.stop
    pieces.append(_panel(wall, reached, wall.length, 0, height))
    return np.concatenate(pieces)


def _door(wall: Wall, o: Opening, d: Draws) -> Thing:
    """A leaf in its frame, with a handle; some stand open."""
    recess = d.real(0.01, 0.08)
    leaf = _slab(wall, o.start, o.stop, o.low, o.high, -recess - 0.04, -recess)
    frame = [
        _slab(wall, o.start - 0.06, o.start, 0, o.high + 0.06, 0, 0.015),
        _slab(wall, o.stop, o.stop + 0.06, 0, o.high + 0.06, 0, 0.015),
        _slab(wall, o.start, o.stop, o.high, o.high + 0.06, 0, 0.015),
    ]
    handle_first = o.swing > 0 or (o.swing == 0 and d.chance(0.5))
    side = o.start + 0.06 if handle_first else o.stop - 0.18
    handle = _slab(wall, side, side + 0.12, 1.0, 1.03, -recess, 0.05 - recess)
    panels = [
        _slab(wall, o.start + 0.12, o.stop - 0.12, low, low + 0.75, -recess, 0.012 - recess)
        for low in (0.15, 1.1)
        if d.chance(0.5) and low + 0.75 < o.high
    ]
    color, metal = d.pick(colors.wood, colors.wood, colors.white, colors.paint)(d), colors.grey(d)
    moving = [(leaf, color), (handle, metal), *((piece, color * 0.95) for piece in panels)]
    hinge = wall.at(o.stop if handle_first else o.start, -recess, 0)
    parts = [(_swung(piece, hinge, o.swing), each) for piece, each in moving]
    parts += [(piece, color * 0.9) for piece in frame]
    return Thing(
        "door",
        np.concatenate([corner for corner, _ in parts]),
        np.concatenate([np.repeat(each[None], len(corner), axis=0) for corner, each in parts]),
    )


def _swung(corner: Array, hinge: tuple[float, float, float], angle: float) -> Array:
    """Triangles turned about the upright line through a point."""
    c, s = math.cos(angle), math.sin(angle)
    turn = array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return np.matmul(corner - array(hinge), turn) + array(hinge)


def _window(wall: Wall, o: Opening, d: Draws) -> Thing:
    """A pane behind a frame of bars."""
    recess = d.real(0.06, 0.11)
    pane = _panel(wall, o.start, o.stop, o.low, o.high, -recess - 0.02)
    places = np.linspace(o.start, o.stop - 0.05, d.count(2, 4)).tolist()
    bars = [_slab(wall, x, x + 0.05, o.low, o.high, -recess - 0.02, -recess + 0.02) for x in places]
    bars += [_slab(wall, o.start, o.stop, z, z + 0.05, -recess - 0.02, -recess + 0.02) for z in (o.low, o.high - 0.05)]
    frame, sky = d.pick(colors.white, colors.wood, colors.grey)(d), array([0.75, 0.85, 0.95]) * d.real(0.5, 1.0)
    corner = np.concatenate([pane, *bars])
    color = np.repeat(frame[None], len(corner), axis=0)
    color[: len(pane)] = sky
    return Thing("window", corner, color)


def picture(wall: Wall, start: float, stop: float, low: float, high: float, d: Draws) -> Thing:
    """A framed picture, a mirror or a board that hangs on a wall."""
    thick = d.real(0.015, 0.04)
    corner = np.concatenate(
        [
            _slab(wall, start, stop, low, high, 0.001, thick),
            _panel(wall, start + 0.03, stop - 0.03, low + 0.03, high - 0.03, thick + 0.001),
        ]
    )
    color = np.repeat(d.pick(colors.wood, colors.grey)(d)[None], len(corner), axis=0)
    color[-2:] = d.pick(colors.bright, colors.white, colors.fabric)(d)
    return Thing("picture", corner, color)


def curtain(wall: Wall, start: float, stop: float, low: float, high: float, d: Draws) -> Thing:
    """A curtain with folds, in front of a wall."""
    steps = max(6, round((stop - start) / 0.03))
    place = np.linspace(start, stop, steps + 1)
    depth = 0.07 + 0.025 * np.sin(np.linspace(0, d.real(3, 8) * (stop - start) * 2 * math.pi, steps + 1))
    columns = [(wall.at(x, y, low), wall.at(x, y, high)) for x, y in zip(place.tolist(), depth.tolist(), strict=True)]
    corner = [array([[a, b, c], [a, c, e]]) for (a, e), (b, c) in zip(columns[:-1], columns[1:], strict=True)]
    return _painted("curtain", np.concatenate(corner), colors.fabric(d))
