"""Things to hold in the hands."""

import math

import numpy as np

from geo3d.data.shapes import mesh
from geo3d.data.shapes.assembly import Assembly
from geo3d.data.shapes.placing import Draws, turn


def shaft(a: Assembly, d: Draws, low: float, high: float, radius: float) -> None:
    """Add a handle along z: straight, swelling, square or with a grip."""
    kind, middle = d.pick("straight", "swell", "square", "grip"), (low + high) / 2
    if kind == "swell":
        z = np.linspace(low, high, 9)
        girth = radius * (1 + 0.35 * np.sin(np.linspace(0, d.real(5, 9), 9)))
        path = np.stack([d.real(-0.06, 0.06) * np.sin(np.linspace(0, math.pi, 9)), 0 * z, z], axis=1)
        a.add("handle", mesh.sweep(path, girth[:, None] * mesh.array([[0.8, 1.1]]), side=(0, 1, 0)))
    elif kind == "square":
        a.box("handle", (0, 0, middle), (2 * radius, 1.5 * radius, high - low), radius=0.5 * radius)
    else:
        a.rod("handle", (0, 0, low), (0, 0, high), radius, top=d.real(0.6, 1), flat=d.real(0.7, 1))
        if kind == "grip":
            a.rod(
                "handle",
                (0, 0, low - 0.02),
                (0, 0, low + 0.4 * (high - low)),
                1.4 * radius,
                top=d.real(0.8, 1),
                flat=0.8,
            )


def hammer(d: Draws) -> Assembly:
    """A hammer, mallet, sledge or axe: a head across the end of a handle."""
    a, long, r = Assembly(), d.real(1, 1.8), d.real(0.04, 0.09)
    shaft(a, d, 0, long, r)
    kind = d.pick("claw", "mallet", "sledge", "pick", "axe")
    w, h, z = d.real(0.3, 0.5), d.real(0.1, 0.2), long - d.real(0, 0.1)
    if kind == "mallet":
        a.rod("body", (-w, 0, z), (w, 0, z), h * d.real(1, 1.6), top=d.real(0.8, 1), square=d.chance(0.3))
    elif kind == "sledge":
        a.box("body", (0, 0, z), (2 * w, 1.6 * h, 1.8 * h), radius=0.3 * h)
    elif kind == "axe":
        lip, deep = d.real(0.2, 0.45), d.real(0.35, 0.6)
        edge = mesh.circle(6, -0.9, 0.9) * (0.12, lip) + (deep, 0)
        a.add(
            "body",
            mesh.extrude([(-0.1, -h * 0.7), (0.15, -h * 0.6), *edge, (0.15, h * 0.6), (-0.1, h * 0.7)], (0.1, 0)),
            (0, 0, z - 0.05),
            (1, 1, 0.05),
            turn(x=90),
        )
        if d.chance(0.25):
            a.add(
                "body",
                mesh.extrude([(0, -h * 0.7), *edge, (0, h * 0.7)], (0.1, 0)),
                (0, 0, z - 0.05),
                (1, 1, 0.05),
                turn(x=90, z=180),
            )
    else:
        a.box("body", (0, 0, z), (2 * h, 1.5 * h, 1.5 * h), radius=0.2 * h)
        if kind == "claw":
            a.rod("body", (h * 0.5, 0, z), (w, 0, z), 0.7 * h, top=d.real(0.8, 1.2))
        sides = (-1,) if kind == "claw" else (-1, 1)
        drop = d.real(0.05, 0.25)
        for s in sides:
            for y in (-0.5, 0.5) if kind == "claw" else (0,):
                curve = mesh.smooth(
                    [(0, y * h * 0.6, z), (s * 0.6 * w, y * h, z + 0.03), (s * 1.3 * w, y * h * 1.2, z - drop)]
                )
                a.add(
                    "body",
                    mesh.sweep(
                        curve,
                        np.linspace(0.5 * h, 0.1 * h, len(curve))[:, None] * mesh.array([[0.8, 1]]),
                        side=(0, 1, 0),
                    ),
                )
    return a


def wrench(d: Draws) -> Assembly:
    """A wrench: a flat bar with an open jaw, a ring or a hexagon at its ends."""
    a, long, thick = Assembly(), d.real(1.3, 2), d.real(0.04, 0.08)
    w = d.real(0.07, 0.14)
    a.box("handle", (0, 0, 0), (long, 2 * w, 1.5 * thick), radius=d.pick(0, 0.4) * thick)
    if d.chance(0.35):
        a.box("detail", (0, 0, 0), (0.6 * long, 1.1 * w, 2 * thick))
    ends = d.pick(
        ("jaw", "ring"), ("jaw", "jaw"), ("ring", "ring"), ("jaw", "none"), ("adjustable", "hole"), ("socket", "none")
    )
    for s, kind in zip((-1, 1), ends, strict=True):
        r, x, tilt = d.real(0.16, 0.3), s * long / 2, d.real(-25, 25)
        facing = turn(z=tilt + (0 if s > 0 else 180))
        if kind == "jaw":
            gap = d.real(0.5, 0.9)
            outer = mesh.circle(16, gap, 2 * math.pi - gap) * r
            mouth = mesh.circle(16, gap, 2 * math.pi - gap) * (0.5 * r)
            mouth[:, 0] = np.where(np.abs(mouth[:, 1]) > 0.2 * r, mouth[:, 0] + 0.15 * r, mouth[:, 0])
            a.add("body", mesh.ribbon(mouth, outer), (x, 0, 0), (1, 1, 1.4 * thick), facing)
        elif kind in ("ring", "hole"):
            corners = d.pick(6, 12, 24)
            angle = np.linspace(0, 2 * math.pi, 25)
            # the distance from the middle to the side of a polygon
            side = np.cos(math.pi / corners) / np.cos(angle % (2 * math.pi / corners) - math.pi / corners)
            hole = mesh.circle(24) * (0.62 * r * side[:, None])
            a.add("body", mesh.ribbon(hole, mesh.circle(24) * r), (x, 0, 0), (1, 1, 1.4 * thick), facing)
        elif kind == "adjustable":
            jaw = [(-0.3, -0.5), (0.2, -1), (0.8, -0.9), (0.9, -0.3), (0.3, -0.3), (0.3, 0.3), (-0.2, 0.8)]
            a.add(
                "body",
                mesh.extrude(mesh.array(jaw) * (1.4 * r), (0.1 * r, -0.3 * r)),
                (x, 0, 0),
                (1, 1, 1.4 * thick),
                facing,
            )
            a.box("arm", (x + s * 0.7 * r, s * 0.6 * r, 0), (0.9 * r, 0.5 * r, 2.4 * thick), facing)
            a.rod("detail", (x, s * 0.3 * r, 0), (x + s * 0.4 * r, s * 0.3 * r, 0), 0.06)
        elif kind == "socket":
            a.add(
                "body",
                mesh.lathe([(0.5 * r, -1), (r, -1), (r, 1), (0.5 * r, 1), (0.5 * r, -1)]),
                (x, 0, -0.06),
                (1, 1, 0.16),
            )
    return a


def knife(d: Draws) -> Assembly:
    """A knife, dagger, cleaver or sword: a flat blade, a guard, a handle."""
    a, long = Assembly(), d.pick(d.real(0.7, 1.2), d.real(1.2, 2.2))
    kind = d.pick("chef", "dagger", "cleaver", "curved", "table")
    x = np.linspace(0, 1, 12)
    w, thick = d.real(0.07, 0.14), d.real(0.012, 0.03)
    round_tip = np.sqrt(np.clip(1 - x ** d.real(3, 8), 0, 1))
    spine, edge = w * np.ones(12), -w * round_tip * np.linspace(d.real(0.8, 1.6), 1, 12)
    spine[-1] = edge[-1] + 0.005 if kind == "chef" else spine[-1]
    if kind == "dagger":
        spine = w * round_tip * np.linspace(1, d.real(0.2, 1), 12) + 0.004
        edge = -spine
    elif kind == "cleaver":
        edge = -d.real(2, 3.5) * w * np.ones(12)
        long *= 0.7
    elif kind == "curved":
        arc = d.real(0.15, 0.4) * x * x
        spine, edge = w * round_tip + arc, -w * round_tip + arc
    elif kind == "table":
        spine, edge = w * round_tip + 0.002, -w * round_tip
    side = np.stack([x * long, edge], axis=1), np.stack([x * long, spine], axis=1)
    a.add("body", mesh.ribbon(side[1], side[0]), (-0.02, 0, 0), (1, 1, thick))
    grip, r = d.real(0.4, 0.7), d.real(0.05, 0.09)
    haft = Assembly()
    shaft(haft, d, -grip, 0, r)
    a.place(haft, turned=turn(y=90))
    if d.chance(0.5):
        reach = d.real(0.1, 0.35)
        a.box("detail", (0, 0, 0), (0.06, 2 * reach, 0.1), radius=0.02)
    if d.chance(0.3):
        a.ball("detail", (-grip, 0, 0), (1.4 * r, 1.4 * r, 1.2 * r))
    return a


def umbrella(d: Draws) -> Assembly:
    """An umbrella or parasol, open or closed, with a hooked or straight handle or a foot."""
    a, r, pole = Assembly(), d.real(0.6, 1), d.real(1.2, 2)
    ribs, h = d.pick(6, 8, 8, 10), d.real(0.2, 0.5)
    a.rod("shaft", (0, 0, 0.1), (0, 0, pole + 0.1), d.real(0.018, 0.035))
    shut = d.chance(0.15)
    if shut:
        line = mesh.smooth([(0.03, 0.35 * pole), (0.14, 0.45 * pole), (0.06, 0.8 * pole), (0.02, pole)])
        a.add("top", mesh.lathe([(0, 0.35 * pole), *line], segments=ribs))
    else:
        dome = mesh.smooth([(r, pole - h), (0.75 * r, pole - 0.35 * h), (0.3 * r, pole - 0.05 * h), (0.001, pole)])
        under = dome[::-1] - (0, 0.02)
        a.add("top", mesh.lathe(np.concatenate([under, dome]), segments=d.pick(ribs, ribs, 24)))
        for k in range(ribs):
            c, s = (f(2 * math.pi * k / ribs) for f in (math.cos, math.sin))
            a.rod("detail", (0.45 * r * c, 0.45 * r * s, pole - 0.3 * h), (0, 0, pole - 1.3 * h), 0.012)
    end = d.pick("hook", "hook", "foot", "knob")
    if end == "hook":
        b = d.real(0.09, 0.16)
        hook = np.stack(
            [b - b * np.cos(np.linspace(0, 3.5, 12)), 0 * np.arange(12), 0.1 - b * np.sin(np.linspace(0, 3.5, 12))],
            axis=1,
        )
        a.add("handle", mesh.sweep(np.concatenate([[(0, 0, 0.35)], hook]), 0.035, side=(0, 1, 0)))
    elif end == "foot":
        a.disc("base", (0, 0, 0.1), d.real(0.2, 0.4), 0.1, top=d.real(0.3, 1))
    else:
        a.rod("handle", (0, 0, 0), (0, 0, 0.35), 0.05, top=0.7)
    return a


def guitar(d: Draws) -> Assembly:
    """A guitar, ukulele, violin or banjo: a waisted body, a neck with frets, a head with pegs."""
    a, long, w = Assembly(), d.real(0.8, 1.1), d.real(0.28, 0.42)
    thick, waist, upper = d.pick(d.real(0.04, 0.06), d.real(0.08, 0.14)), d.real(0.5, 0.85), d.real(0.65, 0.95)
    y = np.array([-1, -0.97, -0.8, -0.5, -0.15, 0.15, 0.45, 0.75, 0.95, 1.0])
    half = w * np.array([0.1, 0.5, 0.9, 1.0, 0.9 * waist + 0.1, waist, upper, 0.95 * upper, 0.5 * upper, 0.1])
    tilt = d.pick(0.0, 0.0, d.real(0.08, 0.2))
    left = mesh.smooth(np.stack([half, y * long / 2 + tilt], axis=1))
    right = mesh.smooth(np.stack([-half, y * long / 2 - tilt * (y > 0.2)], axis=1))
    if d.chance(0.15):
        a.add("body", mesh.cylinder(), size=(w, w, thick))
    else:
        a.add("body", mesh.ribbon(right, left), size=(1, 1, thick))
    neck, top = d.real(0.7, 1.1), long / 2
    slim = d.real(0.035, 0.06)
    a.box("shaft", (0, top + neck / 2 - 0.15, thick), (2 * slim, neck + 0.3, 0.05), radius=0.01)
    a.box("top", (0, top + neck + 0.1, thick - 0.02), (3.2 * slim, 0.26, 0.05), turn(x=-d.real(0, 20)), 0.012)
    for k in range(d.count(2, 3)):
        for s in (-1, 1):
            a.ball("detail", (s * 2.1 * slim, top + neck + 0.03 + 0.08 * k, thick - 0.02), (0.04, 0.018, 0.018))
    if d.chance(0.6):
        a.add("detail", mesh.torus(0.3 * w, 0.015), (0, d.real(-0.05, 0.1) * long, thick))
    a.box("detail", (0, -0.27 * long, thick), (0.7 * w, 0.05, 0.06))
    for k in range(d.count(0, 4)):
        a.rod(
            "detail",
            ((k - 1.5) * 0.35 * slim, -0.27 * long, thick + 0.045),
            ((k - 1.5) * 0.35 * slim, top + neck, thick + 0.04),
            0.004,
        )
    if d.chance(0.5):
        upright = Assembly()
        upright.place(a, turned=turn(x=d.real(70, 90)))
        return upright
    return a
