"""Things that drive, fly or float. They head along x; rockets stand along z."""

import math

import numpy as np

from geo3d.data.shapes import mesh
from geo3d.data.shapes.assembly import Assembly
from geo3d.data.shapes.placing import Draws, turn

AIRFOIL = mesh.circle(12)[:-1] * (1, 0.5) - (0.15, 0)
BLOCK = [(-1, -1), (1, -1), (1, 1), (-1, 1)]


def wheels(a: Assembly, d: Draws, places: list[float], half: float, radius: float, width: float) -> None:
    """Add a pair of wheels on each axle, all of the same style."""
    ring, dish = d.chance(0.3), d.real(0.4, 0.8)
    for x in places:
        for s in (-1, 1):
            if ring:
                a.add("wheel", mesh.torus(radius * 0.75, radius * 0.25), (x, s * half, radius), turned=turn(x=90))
                a.rod("wheel", (x, s * half - 0.3 * width, radius), (x, s * half + 0.3 * width, radius), radius * 0.6)
            else:
                a.rod("wheel", (x, s * (half - width / 2), radius), (x, s * (half + width / 2), radius), radius)
                a.rod("detail", (x, s * half, radius), (x, s * (half + width * 0.6), radius), radius * dish)


def fins(
    a: Assembly,
    root: tuple[float, float, float],
    tip: tuple[float, float, float],
    chord: float,
    narrow: float,
    thick: float,
    sides: tuple[int, ...] = (-1, 1),
) -> None:
    """Add wings or tails from root to tip, with the chord along x; the side -1 mirrors the side 1."""
    stations = np.linspace(0, 1, 3)[:, None]
    path = mesh.array(root) * (1 - stations) + mesh.array(tip) * stations
    scale = (chord / 2) * (1 - (1 - narrow) * stations) * mesh.array([[1, 2 * thick]])
    blade = mesh.sweep(path, scale, AIRFOIL, side=(1, 0, 0))
    for s in sides:
        a.add("wing", blade, size=(1, s, 1))


def car(d: Draws) -> Assembly:
    """A car: sedan, hatchback, pick-up, van, jeep or open racer."""
    a, long, w = Assembly(), d.real(1.7, 2.2), d.real(0.38, 0.48)
    r, low = d.real(0.17, 0.25), d.real(0.12, 0.22)
    style = d.pick("sedan", "hatch", "van", "pickup", "jeep", "racer")
    belt, roof = low + d.real(0.28, 0.4), d.real(0.28, 0.4)
    nose = long / 2
    lines = {
        "sedan": [(-0.72, 0), (-0.5, roof), (0.05, roof), (0.35, 0)],
        "hatch": [(-0.97, 0), (-0.8, roof), (0.05, roof), (0.4, 0)],
        "van": [(-0.98, 0), (-0.95, 1.4 * roof), (0.55, 1.4 * roof), (0.85, 0)],
        "pickup": [(-0.2, 0), (-0.15, roof), (0.2, roof), (0.4, 0)],
        "jeep": [(-0.95, 0), (-0.95, 1.1 * roof), (0.3, 1.1 * roof), (0.35, 0)],
        "racer": [(-0.5, 0), (-0.3, 0.6 * roof), (-0.1, 0.5 * roof), (0.1, 0)],
    }
    upper = [(x * nose, z) for x, z in lines[style]]
    round_off = 0 if style == "jeep" else d.count(1, 2)
    hood = belt - d.pick(0.0, d.real(0, 0.12))
    deck = mesh.smooth(
        [
            (nose, low),
            (nose, low + 0.6 * (hood - low)),
            (nose * 0.92, hood),
            (0.4 * nose, belt),
            (-0.9 * nose, belt),
            (-nose, belt - 0.05),
            (-nose, low),
        ],
        round_off,
    )
    flat = np.stack([deck[:, 0], np.full(len(deck), low)], axis=1)
    a.add("body", mesh.ribbon(flat, deck), size=(1, 1, w), turned=turn(x=90))
    top = mesh.smooth(upper[::-1], round_off)
    flat = np.stack([top[:, 0], np.full(len(top), -0.05)], axis=1)
    a.add(
        "top",
        mesh.ribbon(flat, top),
        (0, 0, belt),
        (1, 1, w * (0.5 if style == "racer" else d.real(0.8, 0.97))),
        turn(x=90),
    )
    if style == "pickup":
        for s in (-1, 1):
            a.box("panel", (-0.6 * nose, s * (w - 0.03), belt + 0.06), (0.78 * nose, 0.06, 0.16))
        a.box("panel", (-0.97 * nose, 0, belt + 0.06), (0.05, 2 * w, 0.16))
    if style == "racer" or d.chance(0.15):
        a.box("wing", (-0.92 * nose, 0, belt + 0.22), (0.22, 2 * w, 0.03), turn(y=d.real(-10, 10)))
        for s in (-1, 1):
            a.box("wing", (-0.92 * nose, s * 0.6 * w, belt + 0.1), (0.08, 0.03, 0.24))
    wheels(
        a,
        d,
        [d.real(0.55, 0.68) * nose, -d.real(0.55, 0.68) * nose],
        w + (0.08 if style == "racer" else -0.01),
        r,
        d.real(0.1, 0.18),
    )
    if d.chance(0.5):
        for s in (-1, 1):
            a.ball("detail", (nose - 0.02, s * 0.65 * w, belt - 0.12), (0.03, 0.06, 0.05))
            a.box("detail", (0.3 * nose, s * (w + 0.05), belt + 0.06), (0.06, 0.1, 0.07))
    return a


def truck(d: Draws) -> Assembly:
    """A truck or bus: cab, cargo of some kind, many wheels."""
    a, long, w = Assembly(), d.real(1.4, 2.6), d.real(0.3, 0.42)
    r, cab, h = d.real(0.14, 0.2), d.real(0.35, 0.5), d.real(0.6, 0.85)
    floor = r * d.real(1.3, 1.9)
    a.box("base", (0, 0, floor), (long, 1.2 * w, 0.1))
    front = long / 2 - cab / 2
    a.box("body", (front, 0, floor + h / 2), (cab, 2 * w, h), radius=d.real(0.01, 0.1))
    if d.chance(0.4):
        a.box(
            "body", (front + cab * 0.7, 0, floor + h * 0.25), (cab * 0.7, 1.6 * w, h * 0.5), radius=d.real(0.01, 0.08)
        )
    rest = long - cab - 0.05
    x, tall = -long / 2 + rest / 2, d.real(0.55, 1.1)
    kind = d.pick("box", "box", "tank", "flat", "dump", "bus")
    if kind in ("box", "bus"):
        size = (rest if kind == "box" else rest + 0.15, 2.1 * w, h if kind == "bus" else tall)
        a.box("body", (x, 0, floor + size[2] / 2), size, radius=d.pick(0, 0.03))
    elif kind == "tank":
        a.rod("body", (x - rest / 2, 0, floor + 0.9 * w), (x + rest / 2, 0, floor + 0.9 * w), 0.95 * w)
        a.ball("body", (x - rest / 2, 0, floor + 0.9 * w), (0.15, 0.95 * w, 0.95 * w))
        a.disc("detail", (x, 0, floor + 1.85 * w), 0.1, 0.1)
    else:
        a.box("panel", (x, 0, floor + 0.06), (rest, 2.1 * w, 0.06))
        side, lean = d.real(0.12, 0.4), 0 if kind == "flat" else d.real(5, 20)
        for s in (-1, 1):
            a.box("panel", (x, s * 1.05 * w, floor + 0.05 + side / 2), (rest, 0.04, side), turn(x=-s * lean))
        a.box("panel", (x - rest / 2, 0, floor + 0.05 + side / 2), (0.04, 2 * w, side))
        for k in range(d.count(0, 3)):
            a.box(
                "detail",
                (x - 0.3 * rest + 0.28 * k * rest, d.real(-0.1, 0.1), floor + 0.2),
                (0.22 * rest, w, d.real(0.2, 0.5)),
                radius=0.01,
            )
    axles = [front] + [-long / 2 + 0.25 + 2.3 * r * k for k in range(d.count(1, 3))]
    wheels(a, d, axles, w - 0.02, r, d.real(0.1, 0.16))
    if d.chance(0.3):
        a.rod("detail", (front - cab / 2, 0.8 * w, floor), (front - cab / 2, 0.8 * w, floor + h + 0.2), 0.035)
    return a


def airplane(d: Draws) -> Assembly:
    """An airplane: jet liner, propeller plane, fighter, glider or biplane."""
    a, long, r = Assembly(), d.real(1.4, 2.2), d.real(0.09, 0.17)
    stations = np.array([-1, -0.75, -0.4, 0, 0.5, 0.75, 0.9, 0.97, 1.0])
    girth = np.array([d.real(0.15, 0.5), 0.55, 0.9, 1, 1, 0.9, 0.6, 0.33, 0.05])
    path = np.stack([stations * long / 2, 0 * stations, 0.3 * r * (stations < -0.5)], axis=1)
    a.add("body", mesh.sweep(path, girth[:, None] * r * mesh.array([[1, d.real(0.9, 1.3)]]), side=(0, 1, 0)))
    span, chord, narrow = d.real(0.6, 1.3), d.real(0.25, 0.5), d.real(0.2, 0.95)
    back, rise, x = d.real(-0.1, 0.7), d.real(-0.05, 0.2), d.real(-0.1, 0.25)
    high, double = d.pick(-0.6, 0, 0.8) * r, d.chance(0.15)
    fins(a, (x, 0, high), (x - back, span, high + rise), chord, narrow, d.real(0.06, 0.12))
    if double:
        fins(a, (x, 0, high + 0.35), (x - back, span, high + rise + 0.35), chord, narrow, 0.08)
        for s in (-1, 1):
            a.rod("shaft", (x - 0.5 * back, s * 0.5 * span, high), (x - 0.5 * back, s * 0.5 * span, high + 0.4), 0.015)
    tail, tall = -long / 2 + 0.12, d.real(0.25, 0.45)
    twin = d.chance(0.15)
    out = 0.25 if twin else 0.0
    fins(a, (tail, out, 0), (tail - d.real(0.02, 0.25), 1.2 * out, tall), 0.28, 0.5, 0.08, (-1, 1) if twin else (1,))
    level = d.pick(0.03, 0.03, tall * 0.9)
    fins(a, (tail, 0, level), (tail - d.real(0, 0.2), span * d.real(0.3, 0.4), level), 0.2, 0.6, 0.08)
    engines = d.pick("jets", "propeller", "none", "jets4", "rear")
    for s in (-1, 1):
        for f in {"jets": (0.35,), "jets4": (0.3, 0.6)}.get(engines, ()):
            px, py, pz = x - back * f, s * span * f, high - 0.1
            a.rod("detail", (px - 0.12, py, pz), (px + 0.22, py, pz), 0.065, top=1.2)
        if engines == "rear":
            a.rod("detail", (tail + 0.1, s * (r + 0.06), 0.05), (tail + 0.4, s * (r + 0.06), 0.05), 0.065)
    if engines == "propeller":
        for k in range(d.count(2, 4)):
            a.box("detail", (long / 2, 0, 0), (0.03, 0.06, 0.55), turn(x=45 * k))
    if d.chance(0.3):
        for px, py in ((0.35 * long, 0), (0, 0.2), (0, -0.2)):
            a.rod("leg", (px, py, 0), (px, py, -r - 0.12), 0.02)
            a.rod("wheel", (px, py - 0.03, -r - 0.13), (px, py + 0.03, -r - 0.13), 0.06)
    if d.chance(0.3):
        a.ball("top", (0.25 * long, 0, r), (0.2, 0.6 * r, 0.6 * r))
    return a


def rocket(d: Draws) -> Assembly:
    """A rocket: slender body with a nose, fins, nozzles, sometimes boosters."""
    a, r, h = Assembly(), d.real(0.12, 0.3), d.real(1.2, 2)
    nose, waist = d.real(0.3, 0.7), d.real(0.75, 1.15)
    line = [(r * d.real(0.6, 1), 0), (r, 0.1), (r, 0.45 * h), (r * waist, 0.55 * h), (r * waist, h)]
    tip = [(r * waist, h), (0.7 * r * waist, h + 0.5 * nose), (0.002, h + nose)]
    line += list(mesh.smooth(tip, 2))[1:] if d.chance(0.7) else tip[1:]
    a.add("body", mesh.lathe([(0, 0), *line]))
    fins, reach, tall = d.count(3, 5), d.real(0.2, 0.5), d.real(0.3, 0.6)
    sweep, thick = d.real(-0.3, 0.2), d.real(0.015, 0.04)
    outline = [(0.6 * r, 0), (r + reach, sweep), (r + reach, sweep + 0.4 * tall), (0.6 * r, tall)]
    for k in range(fins):
        a.add("wing", mesh.extrude(outline), size=(1, 1, thick), turned=turn(x=90, z=360 * k / fins))
    if d.chance(0.35):
        boosters, b, up = d.pick(2, 2, 3, 4), r * d.real(0.4, 0.8), h * d.real(0.4, 0.8)
        for k in range(boosters):
            c, s = (f(2 * math.pi * (k + 0.5) / boosters) * (r + b) for f in (math.cos, math.sin))
            a.disc("shaft", (c, s, up / 2), b, up)
            a.disc("shaft", (c, s, up + b), b, 2 * b, top=0)
            a.disc("base", (c, s, -0.05), 0.8 * b, 0.14, top=0.5)
    a.disc("base", (0, 0, -0.07), d.real(0.6, 0.95) * r, 0.2, top=0.5)
    for k in range(d.count(0, 2)):
        a.ball("detail", (0, -r * 0.95, h * (0.6 + 0.15 * k)), (0.07, 0.03, 0.07))
    return a


def boat(d: Draws) -> Assembly:
    """A boat: a hull with a pointed bow, open or decked, with sails, a cabin or oars."""
    a, long, w, h = Assembly(), d.real(1.5, 2.3), d.real(0.25, 0.45), d.real(0.25, 0.45)
    x = np.linspace(-1, 1, 9)
    beam = np.clip(1 - np.clip((x - d.real(-0.3, 0.1)) / 1.1, 0, 1) ** 2 - 0.35 * np.clip(-x - 0.4, 0, 1), 0.03, 1)
    if d.chance(0.3):
        beam = np.clip(1 - np.abs(x) ** d.real(2, 3), 0.03, 1)
    sheer = h + 0.25 * h * x * x * d.real(0, 2)
    keel = h * d.real(0.0, 0.9) * np.clip(np.abs(x) - 0.5, 0, 1) ** 1.5
    sharp = d.real(0.6, 2)
    across = np.linspace(-1, 1, 11)
    # the hull is a sheet over (station, across), turned up at the sides; closed by a deck or an inner sheet
    lift = np.abs(across) ** (2 * sharp)
    hull = np.stack(
        np.broadcast_arrays(
            x[:, None] * long / 2,
            beam[:, None] * w * np.sign(across) * np.abs(across) ** 0.6,
            keel[:, None] + (sheer - keel)[:, None] * lift,
        ),
        axis=-1,
    )
    a.add("body", _sheet(hull, (0, 0, -1)))
    inside = hull * (0.93, 0.85, 1)
    inside[..., 2] = np.maximum(hull[..., 2], 0.12 * h) if d.chance(0.5) else sheer[:, None] * d.real(0.75, 1)
    a.add("panel", _sheet(inside, (0, 0, 1)))
    kind = d.pick("sail", "sail", "cabin", "row", "ship")
    if kind == "sail":
        x0, mast = d.real(-0.1, 0.3) * long / 2, d.real(0.9, 1.7)
        a.rod("shaft", (x0, 0, 0.1), (x0, 0, h + mast), 0.025, top=0.6)
        a.rod("shaft", (x0, 0, h + 0.15), (x0 - 0.4 * long, 0, h + 0.15), 0.018)
        belly = d.real(-0.15, 0.15)
        u, v = np.meshgrid(np.linspace(0, 1, 6), np.linspace(0, 1, 8))
        sail = np.stack(
            [x0 - 0.03 - (1 - v) * u * 0.38 * long, belly * np.sin(math.pi * u) * (1 - v), h + 0.18 + v * mast * 0.95],
            axis=-1,
        )
        a.add("wing", _sheet(sail, (0, 1, 0)))
        if d.chance(0.6):
            jib = np.stack(
                [
                    x0 + 0.03 + (1 - v) * u * (0.95 * long / 2 - x0),
                    belly * np.sin(math.pi * u) * (1 - v),
                    h + 0.1 + v * mast * 0.8,
                ],
                axis=-1,
            )
            a.add("wing", _sheet(jib, (0, 1, 0)))
    elif kind in ("cabin", "ship"):
        x0, size = d.real(-0.4, 0.1) * long / 2, d.real(0.25, 0.45) * long
        for k in range(1 if kind == "cabin" else d.count(2, 3)):
            f = 0.75**k
            a.box("top", (x0, 0, h + 0.1 + 0.2 * k), (size * f, 1.2 * w * f, 0.26), radius=d.pick(0, 0.04))
        if kind == "ship":
            for k in range(d.count(1, 3)):
                a.rod("shaft", (x0 + 0.15 * (k - 1), 0, h + 0.3), (x0 + 0.15 * (k - 1) - 0.04, 0, h + 0.8), 0.05)
    else:
        for k in range(d.count(2, 4)):
            a.box("seat", ((k - 1) * 0.2 * long, 0, 0.7 * h), (0.12, 1.5 * w, 0.04))
        for s in (-1, 1):
            a.rod("handle", (0, 0.4 * s * w, h + 0.15), (-0.3, s * (w + 0.7), h - 0.1), 0.02)
            a.ball("handle", (-0.3, s * (w + 0.7), h - 0.1), (0.05, 0.18, 0.02), turn(x=-s * 15))
    return a


def _sheet(grid: np.ndarray, towards: tuple[float, float, float]) -> mesh.Surface:
    """A sheet from a grid of points (R, C, 3). The sum of its normals points to the side of ``towards``."""
    grid = grid.astype(np.float32)
    across = mesh.cross(mesh.slope(grid), mesh.slope(grid.swapaxes(0, 1)).swapaxes(0, 1))
    normal = mesh.unit(across)
    if (normal.sum((0, 1)) * towards).sum() < 0:
        normal = -normal
    # where the sheet narrows to a point its normal is undefined
    normal = np.where((normal * normal).sum(-1, keepdims=True) > 0.5, normal, mesh.array(towards))
    return mesh.strips(np.stack([grid[:-1], grid[1:]], 1), np.stack([normal[:-1], normal[1:]], 1))
