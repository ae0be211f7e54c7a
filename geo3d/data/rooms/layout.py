"""A furnished room: every thing stands on the floor or lies on another, and no two intersect."""

import math
from typing import NamedTuple

import numpy as np

from geo3d.data.rooms import colors
from geo3d.data.rooms.furniture import furnish
from geo3d.data.rooms.shell import Shell, Wall, curtain, picture, shell, surfaces
from geo3d.data.rooms.thing import Area, Thing, area_of, box
from geo3d.data.shapes.mesh import Array
from geo3d.data.shapes.placing import Draws

GAP = 0.03
"""Things on the floor are at least this far apart in plan, in metres."""
REST = 0.0005
"""How far a thing is above what it stands on: too little to see, enough not to touch."""
CLEAR = 0.2
"""What lies on another thing stays this far below the ceiling, and so below its lamps."""
TRIES = 12


class Style(NamedTuple):
    """What stands in a kind of room."""

    middle: tuple[str, ...]
    """Things in the middle, with chairs around tables; one of them is drawn, or none."""
    walls: tuple[str, ...]
    """Things along the walls; several are drawn, also repeatedly."""
    free: tuple[str, ...]
    """Things anywhere."""


STYLES = (
    Style(("table", "low table"), ("sofa", "sofa", "shelf", "cabinet", "piano"), ("floor lamp", "plant", "chair")),
    Style(("table",), ("shelf", "cabinet", "cabinet", "bench"), ("plant", "chair", "stool")),
    Style((), ("bed", "cabinet", "desk", "shelf", "bench"), ("floor lamp", "chair", "plant", "guitar")),
    Style(("table", "desk"), ("desk", "desk", "shelf", "cabinet"), ("chair", "chair", "plant", "ladder")),
    Style((), ("bathtub", "toilet", "cabinet", "shelf"), ("stool", "plant")),
)  # fmt: skip
ON_TOP = {
    "table": ("laptop", "monitor", "cup", "cup", "bottle", "bowl", "vase", "teapot", "lamp", "small plant"),
    "shelf": ("vase", "small plant", "bowl"),
    "cabinet": ("lamp", "vase", "small plant", "bowl", "bottle", "teapot"),
    "piano": ("vase", "lamp"),
}
"""What may lie on things of a class."""


class Room(NamedTuple):
    """A furnished room."""

    shell: Shell
    things: list[Thing]
    """Floor, ceiling and walls first, then everything else."""


class _Plan:
    """The things placed so far, and the floor that they leave free."""

    def __init__(self, shell: Shell) -> None:
        self.shell, self.things = shell, list[Thing]()
        self.floor = Area(0.02, shell.width - 0.02, 0.02, shell.depth - 0.02)
        self.taken: list[Area] = []
        for wall in shell.walls:
            for o in wall.openings:
                if o.label == "door":
                    self.taken.append(wall.area(o.start - 0.1, o.stop + 0.1, 1.1))

    def add(self, thing: Thing, spare: float = GAP) -> bool:
        """Place a thing if its floor is free."""
        area = area_of(thing)
        if not area.within(self.floor) or any(area.meets(other, spare) for other in self.taken):
            return False
        self.taken.append(area)
        self.things.append(thing)
        return True


def furnished(d: Draws) -> Room:
    """A random room with its furniture."""
    style = d.pick(*STYLES)
    large = 0.0 if style.middle else -1.0
    room = shell(d, d.real(3.2, 6.5 + large), d.real(3.0, 5.5 + large))
    plan = _Plan(room)
    _columns(plan, d)
    for _ in range(d.count(3, 4 + round(room.width + room.depth) // 2)):
        _against_wall(plan, furnish(d.pick(*style.walls), d), d)
    if style.middle and d.chance(0.85):
        _in_the_middle(plan, d.pick(*style.middle), d)
    for _ in range(d.count(1, 5)):
        _anywhere(plan, furnish(d.pick(*style.free), d), d)
    _on_walls(plan, d)
    for support in list(plan.things):
        if support.label in ON_TOP:
            _on_top(plan, support, d)
    return Room(room, [*surfaces(room, d), *_on_ceiling(room, d), *plan.things])


def _columns(plan: _Plan, d: Draws) -> None:
    """Sometimes a column at a wall, from the floor to the ceiling."""
    if not d.chance(0.25):
        return
    wall, wide = d.pick(*plan.shell.walls), d.real(0.25, 0.5)
    start, deep = d.real(0, wall.length - wide), d.real(0.15, 0.45)
    area = wall.area(start, start + wide, deep)
    if any(area.meets(other, GAP) for other in plan.taken) or _behind(wall, start, start + wide, 0):
        return
    corner = box((area.left, area.front, 0), (area.right, area.back, plan.shell.height))
    plan.taken.append(area)
    plan.things.append(Thing("column", corner, np.repeat(colors.paint(d)[None], len(corner), axis=0)))


def _behind(wall: Wall, start: float, stop: float, height: float) -> bool:
    """Whether a thing of this height would cover a window or a door of the wall."""
    return any(o.start < stop and start < o.stop and (height > o.low or height == 0) for o in wall.openings)


def _against_wall(plan: _Plan, thing: Thing, d: Draws) -> None:
    """Place a thing with its back to a wall, where it covers no opening."""
    for _ in range(TRIES):
        wall = d.pick(*plan.shell.walls)
        turned = thing.turned(wall.angle)
        (_, low, _), (_, high, tall) = thing.low.tolist(), thing.high.tolist()
        half = float(thing.high[0] - thing.low[0]) / 2
        if wall.length < 2 * half + 0.1:
            continue
        place = d.real(half + 0.03, wall.length - half - 0.03)
        if _behind(wall, place - half, place + half, tall):
            continue
        x, y, _ = wall.at(place, (high - low) / 2 + d.real(0.03, 0.08), 0)
        if plan.add(turned.moved((x, y, REST))):
            if thing.label == "table" and d.chance(0.8):
                _seat(plan, turned.moved((x, y, REST)), wall.inward, d)
            return


def _seat(plan: _Plan, table: Thing, towards: tuple[float, float], d: Draws) -> None:
    """Place a chair at the side of a table that looks in the direction ``towards``, facing the table."""
    seat = furnish("chair", d).turned(math.atan2(-towards[0], towards[1]) + d.real(-0.4, 0.4))
    area, own = area_of(table), area_of(seat)
    reach_x = (area.right - area.left + own.right - own.left) / 2
    reach_y = (area.back - area.front + own.back - own.front) / 2
    away, shift = d.real(0.05, 0.3), d.real(-0.2, 0.2)
    x = (area.left + area.right) / 2 + towards[0] * (reach_x + away) + towards[1] * shift
    y = (area.front + area.back) / 2 + towards[1] * (reach_y + away) - towards[0] * shift
    plan.add(seat.moved((x - (own.left + own.right) / 2, y - (own.front + own.back) / 2, REST)))


def _in_the_middle(plan: _Plan, name: str, d: Draws) -> None:
    """Place a table away from the walls, with chairs around it."""
    for _ in range(TRIES):
        thing = furnish(name, d).turned(d.pick(0.0, math.pi / 2, d.real(0, math.pi)))
        x, y = d.real(0.3, 0.7) * plan.shell.width, d.real(0.3, 0.7) * plan.shell.depth
        if plan.add(thing.moved((x, y, REST)), spare=0.4):
            break
    else:
        return
    if name != "low table":
        table = plan.things[-1]
        for towards in ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)):
            if d.chance(0.75):
                _seat(plan, table, towards, d)


def _anywhere(plan: _Plan, thing: Thing, d: Draws) -> None:
    """Place a thing somewhere on the floor, in any direction."""
    thing = thing.turned(d.real(0, 2 * math.pi))
    for _ in range(TRIES):
        x, y = d.real(0.2, plan.shell.width - 0.2), d.real(0.2, plan.shell.depth - 0.2)
        if plan.add(thing.moved((x, y, REST))):
            return


def _on_walls(plan: _Plan, d: Draws) -> None:
    """Hang pictures and boards where nothing stands in front, and curtains beside windows."""
    for wall in plan.shell.walls:
        hung: list[tuple[float, float]] = []
        for _ in range(d.count(0, 2)):
            wide, low = d.pick(d.real(0.3, 0.7), d.real(0.8, 1.8)), d.real(0.95, 1.4)
            high = min(low + d.real(0.4, 0.9), plan.shell.height - 0.2)
            if wide > wall.length - 0.4:
                continue
            start = d.real(0.2, wall.length - 0.2 - wide)
            area = wall.area(start, start + wide, 0.08)
            free = all(not area.meets(other) or other.height < low - 0.05 for other in plan.taken)
            free = free and not any(a < start + wide and start < b for a, b in hung)
            if free and not _behind(wall, start - 0.1, start + wide + 0.1, math.inf):
                plan.things.append(picture(wall, start, start + wide, low, high, d))
                hung.append((start, start + wide))
        for o in wall.openings:
            if o.label == "window" and d.chance(0.4):
                _curtains(plan, wall, o.start, o.stop, hung, d)


def _curtains(plan: _Plan, wall: Wall, start: float, stop: float, hung: list[tuple[float, float]], d: Draws) -> None:
    """Hang a curtain at each side of a window where there is room for it."""
    high, wide = plan.shell.height - 0.08, d.real(0.25, 0.5)
    for a, b in ((start - 0.8 * wide, start + 0.2 * wide), (stop - 0.2 * wide, stop + 0.8 * wide)):
        area = wall.area(a, b, 0.12)
        inside = a > 0.02 and b < wall.length - 0.02
        if (
            inside
            and not any(area.meets(other, GAP) for other in plan.taken)
            and not any(p < b and a < q for p, q in hung)
        ):
            plan.taken.append(area)
            plan.things.append(curtain(wall, a, b, 0.05, high, d))


def _on_ceiling(room: Shell, d: Draws) -> list[Thing]:
    """Lamps on the ceiling."""
    lamps: list[Thing] = []
    for _ in range(d.count(0, 3)):
        wide, long, thick = d.real(0.25, 0.6), d.real(0.25, 1.2), d.real(0.04, 0.12)
        x, y = d.real(0.5, room.width - 0.5 - wide), d.real(0.5, room.depth - 0.5 - long)
        if not any(area_of(other).meets(Area(x, x + wide, y, y + long), GAP) for other in lamps):
            top = room.height - REST
            corner = box((x, y, top - thick), (x + wide, y + long, top))
            lamps.append(Thing("lamp", corner, np.repeat(colors.white(d)[None], len(corner), axis=0)))
    return lamps


def _on_top(plan: _Plan, support: Thing, d: Draws) -> None:
    """Put small things on a support where it is flat and free."""
    number = d.count(1, 7) if support.label == "table" else d.count(0, 2)
    taken: list[Area] = []
    area = area_of(support)
    for _ in range(number):
        thing = furnish(d.pick(*ON_TOP[support.label]), d).turned(d.real(0, 2 * math.pi))
        own = area_of(thing)
        half_x, half_y = (own.right - own.left) / 2, (own.back - own.front) / 2
        if own.right - own.left > area.right - area.left or own.back - own.front > area.back - area.front:
            continue
        for _ in range(TRIES // 2):
            x, y = d.real(area.left + half_x, area.right - half_x), d.real(area.front + half_y, area.back - half_y)
            place = Area(x - half_x, x + half_x, y - half_y, y + half_y)
            height = flat_height(support.corner, place)
            fits = height is not None and height + own.height < plan.shell.height - CLEAR
            if height is not None and fits and not any(place.meets(other, 0.01) for other in taken):
                shift = (x - (own.left + own.right) / 2, y - (own.front + own.back) / 2, height + REST)
                taken.append(place)
                plan.things.append(thing.moved(shift))
                break


def flat_height(corner: Array, place: Area, samples: int = 5) -> float | None:
    """Height of a surface under a rectangle; None if it is not flat there, within 2 mm, or has an edge or a hole.

    Args:
        corner: (F, 3, 3) the triangles of the surface.
        place: The rectangle.
        samples: The height is taken on a grid of samples^2 points.
    """
    low, high = corner.min(1), corner.max(1)
    near = (low[:, 0] <= place.right) & (high[:, 0] >= place.left)
    near &= (low[:, 1] <= place.back) & (high[:, 1] >= place.front)
    if not near.any():
        return None
    corner, top = corner[near], float(high[near, 2].max())
    x, y = np.meshgrid(np.linspace(place.left, place.right, samples), np.linspace(place.front, place.back, samples))
    heights = _heights(corner.astype(np.float64), np.stack([x.ravel(), y.ravel()], axis=1))
    return top if heights.min() > top - 0.002 else None


def _heights(corner: Array, point: Array) -> Array:
    """(P,) height of the highest triangle above or below each point (P, 2); -infinity where there is none."""
    a, b, c = (corner[:, i, None, :2] - point for i in range(3))
    area = [p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0] for p, q in ((b, c), (c, a), (a, b))]
    total = area[0] + area[1] + area[2]
    inside = np.all([each * np.sign(total) >= 0 for each in area], axis=0) & (np.abs(total) > 1e-12)
    z = sum(each * corner[:, i, None, 2] for i, each in enumerate(area)) / np.where(inside, total, 1.0)
    return np.where(inside, z, -np.inf).max(0)
