"""Other household objects, and abstract sculptures."""

import math

import numpy as np

from geo3d.data.shapes import mesh
from geo3d.data.shapes.assembly import Assembly
from geo3d.data.shapes.placing import PARTS, Draws, turn
from geo3d.data.shapes.seats import legs


def lamp(d: Draws) -> Assembly:
    """A lamp: table, floor, desk or hanging lamp with a shade."""
    a, h, r = Assembly(), d.real(0.6, 2), d.real(0.18, 0.4)
    kind = d.pick("stand", "stand", "stand", "arm", "arc", "hanging")
    low, high, tall = r * d.real(0.7, 1.3), r * d.real(0.3, 1), r * d.real(0.7, 1.5)
    hood = Assembly()
    style = d.pick("cone", "cone", "globe", "bell", "drum")
    if style == "globe":
        hood.ball("top", (0, 0, 0), (r, r, r * d.real(0.7, 1.1)))
    elif style == "drum":
        rim = [(low, -tall / 2), (low, tall / 2), (low - 0.02, tall / 2), (low - 0.02, -tall / 2), (low, -tall / 2)]
        hood.add("top", mesh.lathe(rim, d.pick(4, 6, 24)))
    else:
        line = mesh.array([(low, -tall / 2), (high, tall / 2)])
        if style == "bell":
            line = mesh.smooth([(low, -tall / 2), (0.9 * low, 0.2 * tall), (0.4 * high, tall / 2)])
        hood.add("top", mesh.lathe(np.concatenate([line, (line - (0.015, 0.01))[::-1]])))
        hood.ball("detail", (0, 0, -0.1 * tall), (0.2 * r,) * 3)
    foot, thick = d.real(0.18, 0.35), d.real(0.015, 0.04)
    if kind == "hanging":
        a.place(hood)
        a.rod("shaft", (0, 0, 0), (0, 0, h), 0.5 * thick)
        a.disc("base", (0, 0, h), 0.12, 0.06)
        return a
    if d.chance(0.7):
        a.disc("base", (0, 0, 0.03), foot, d.real(0.03, 0.1), top=d.real(0.2, 1))
    else:
        legs(a, d, 1.4 * foot, 1.4 * foot, d.real(0.2, 0.7) * h, d.pick("splayed", "star"))
    if kind == "stand":
        if d.chance(0.4):
            body = mesh.smooth(
                [(0.06, 0), (d.real(0.05, 0.25), 0.2 * h), (d.real(0.03, 0.2), 0.5 * h), (0.03, 0.8 * h)]
            )
            a.add("shaft", mesh.lathe(np.concatenate([[(0, 0)], body])))
        a.rod("shaft", (0, 0, 0), (0, 0, h), thick, top=0.8)
        a.place(hood, (0, 0, h))
    elif kind == "arm":
        x, z = d.real(-0.35, -0.1), d.real(0.45, 0.7) * h
        end = (d.real(0.2, 0.5), 0, z + d.real(0, 0.3))
        a.rod("shaft", (0, 0, 0), (x, 0, z), thick)
        a.rod("shaft", (x, 0, z), end, thick)
        a.ball("detail", (x, 0, z), (2 * thick,) * 3)
        a.place(hood, end, turn(y=d.real(-60, 0)))
    else:
        reach = d.real(0.4, 0.9)
        path = mesh.smooth([(0, 0, 0), (0, 0, 0.9 * h), (0.4 * reach, 0, 1.15 * h), (reach, 0, 0.9 * h)], 3)
        a.add("shaft", mesh.sweep(path, thick, side=(0, 1, 0)))
        a.place(hood, (reach, 0, 0.9 * h - 0.3 * tall), turn(y=d.real(-15, 15)))
    return a


def monitor(d: Draws) -> Assembly:
    """A monitor or television: a screen with a frame on a foot, feet or nothing, flat or deep."""
    a, w = Assembly(), d.real(0.9, 1.7)
    h, t = w * d.real(0.5, 0.8), d.pick(d.real(0.04, 0.1), d.real(0.04, 0.1), d.real(0.3, 0.5))
    rise, frame = d.real(0.1, 0.4), d.real(0.02, 0.07)
    z = rise + h / 2
    head = Assembly()
    head.box("body", (0, 0, 0), (w, t, h), radius=d.pick(0, 0.2) * min(t, 0.2))
    for s in (-1, 1):
        head.box("panel", (s * (w - frame) / 2, -t / 2, 0), (frame, 0.04, h))
        head.box("panel", (0, -t / 2, s * (h - frame) / 2), (w, 0.04, frame))
    if t > 0.2 or d.chance(0.3):
        size = mesh.array([[w * 0.8, h * 0.8], [w * 0.4, h * 0.5]]) / 2
        path = [(0, t / 2 - 0.01, 0), (0, t / 2 + d.real(0.05, 0.4), 0)]
        head.add("back", mesh.sweep(path, size, [(-1, -1), (1, -1), (1, 1), (-1, 1)], side=(1, 0, 0)))
    a.place(head, (0, 0, z), turn(x=-d.real(-4, 12)))
    kind = d.pick("round", "square", "feet", "vee", "none")
    if kind in ("round", "square"):
        a.rod("shaft", (0, 0.05, 0), (0, 0.05, z), d.real(0.03, 0.09), square=d.chance(0.5))
        foot = d.real(0.18, 0.35)
        if kind == "round":
            a.add("base", mesh.cylinder(0.9), (0, 0, 0.02), (foot * d.real(1, 1.6), foot, 0.025))
        else:
            a.box("base", (0, 0, 0.02), (2 * foot * d.real(1, 1.6), 1.6 * foot, 0.04), radius=0.018)
    elif kind != "none":
        for s in (-1, 1):
            x = s * w * (0.35 if kind == "feet" else 0.05)
            for y in (-1, 1):
                a.rod(
                    "leg",
                    (x, 0, rise + 0.03),
                    (x + (s * 0.2 if kind == "vee" else 0), y * 0.25, 0),
                    0.025,
                    square=d.chance(0.5),
                )
    if d.chance(0.15):
        a.box("detail", (0, -0.6, 0.02), (0.7 * w, 0.25, 0.04), radius=0.01)
    return a


def laptop(d: Draws) -> Assembly:
    """A laptop, book or folder: two slabs hinged along an edge."""
    a, w = Assembly(), d.real(1, 1.5)
    t, thick = w * d.real(0.6, 0.8), d.real(0.03, 0.08)
    a.box("base", (0, 0, 0), (w, t, thick), radius=d.pick(0, 0.4) * thick)
    lid, angle = Assembly(), d.real(15, 120)
    lid.box("top", (0, -t / 2, thick * 0.5), (w, t, 0.6 * thick), radius=d.pick(0, 0.25) * thick)
    lid.box("panel", (0, -t / 2, 0.15 * thick), (0.9 * w, 0.85 * t, 0.1 * thick))
    a.place(lid, (0, t / 2, thick * 0.4), turn(x=-angle))
    a.rod("detail", (-0.4 * w, t / 2, thick * 0.5), (0.4 * w, t / 2, thick * 0.5), 0.6 * thick)
    if d.chance(0.85):
        for row in range(4):
            keys = (8, 7, 7, 3)[row]
            for k in range(keys):
                wide = 0.86 * w / keys
                a.box(
                    "detail",
                    ((k + 0.5) * wide - 0.43 * w, (0.32 - 0.15 * row) * t, thick / 2),
                    (0.8 * wide, 0.11 * t, 0.03),
                )
        a.box("detail", (0, -0.35 * t, thick / 2), (0.3 * w, 0.2 * t, 0.012))
    return a


def plant(d: Draws) -> Assembly:
    """A plant in a pot: leaves on stems, a bush, a cactus or a little tree."""
    a, r, h = Assembly(), d.real(0.2, 0.4), d.real(0.3, 0.6)
    if d.chance(0.7):
        low = r * d.real(0.6, 0.95)
        a.add(
            "base",
            mesh.lathe(
                [(0, 0), (low, 0), (r, h), (0.88 * r, h), (0.85 * r, 0.88 * h), (0, 0.88 * h)], d.pick(4, 24, 24)
            ),
        )
    else:
        a.box("base", (0, 0, h / 2), (2 * r, 2 * r, h), radius=d.pick(0, 0.05))
    kind = d.pick("leaves", "leaves", "blades", "tree", "cactus")
    if kind in ("leaves", "blades"):
        number, tall = d.count(7, 16), d.real(0.5, 1.1)
        for k in range(number):
            angle, out = 2.4 * k + d.real(-0.3, 0.3), d.real(0.2, 0.7)
            c, s, top = math.cos(angle), math.sin(angle), h + tall * d.real(0.5, 1)
            if kind == "leaves":
                a.rod("shaft", (0, 0, 0.8 * h), (out * c, out * s, top), 0.014)
                leaf = d.real(0.13, 0.28)
                a.ball(
                    "soft",
                    (out * c, out * s, top),
                    (leaf, 0.55 * leaf, 0.012),
                    turn(y=d.real(-10, 50), z=math.degrees(angle)),
                )
            else:
                path = mesh.smooth(
                    [
                        (0.02 * c, 0.02 * s, 0.8 * h),
                        (0.3 * out * c, 0.3 * out * s, top),
                        (out * c, out * s, top - d.real(0, 0.5)),
                    ]
                )
                wide = 0.07 * np.sin(np.linspace(0.3, 3.1, len(path)))
                a.add("soft", mesh.sweep(path, wide[:, None] * mesh.array([[1, 0.12]]), side=(-s, c, 0)))
    elif kind == "tree":
        tall = d.real(0.4, 1)
        a.rod("shaft", (0, 0, 0.5 * h), (0, 0, h + tall), 0.05, top=0.7)
        levels = d.count(1, 4)
        cone = d.chance(0.4)
        for k in range(levels):
            size, z = d.real(0.25, 0.5) * 0.85**k, h + tall + 0.28 * k
            if cone:
                a.disc("soft", (0, 0, z), size, 0.5, top=0)
            else:
                a.ball("soft", (d.real(-0.15, 0.15), d.real(-0.15, 0.15), z), (size, size, 0.8 * size))
    else:
        tall = d.real(0.4, 0.9)
        a.ball("soft", (0, 0, h + 0.4 * tall), (0.6 * r, 0.6 * r, 0.65 * tall))
        for k in range(d.count(0, 3)):
            c, s, z = 0.75 * r * math.cos(2.2 * k), 0.75 * r * math.sin(2.2 * k), h + d.real(0.2, 0.5) * tall
            path = mesh.smooth([(0, 0, z), (1.3 * c, 1.3 * s, z), (1.5 * c, 1.5 * s, z + d.real(0.2, 0.4))])
            a.add("soft", mesh.sweep(path, 0.25 * r))
    return a


def helmet(d: Draws) -> Assembly:
    """A helmet, cap or hat: a hollow dome with a brim, a visor, a crest or straps."""
    a, r = Assembly(), d.real(0.5, 0.7)
    tall, drop, thick = d.real(0.6, 1.2) * r, d.real(0, 0.5) * r, 0.05
    dome = mesh.circle(10, 0, math.pi / 2) * (r, tall)
    dome[-1, 0] = 0.001
    line = np.concatenate([[(r * d.real(0.85, 1.1), -drop)], dome])
    a.add(
        "body", mesh.lathe(np.concatenate([((line - (0, thick)) * (0.92, 1))[::-1], line])), size=(1, d.real(0.8, 1), 1)
    )
    kind = d.pick("brim", "visor", "peak", "crest", "none")
    if kind == "brim":
        wide = r * d.real(1.3, 1.9)
        a.add(
            "panel",
            mesh.lathe(
                [
                    (0.9 * r, -drop - 0.03),
                    (wide, -drop - d.real(0, 0.15)),
                    (wide, -drop + 0.03),
                    (0.9 * r, -drop + 0.03),
                ]
            ),
        )
    elif kind == "peak":
        peak = mesh.circle(10, -1.3, 1.3) * (r * d.real(1.3, 1.7), r)
        a.add(
            "panel",
            mesh.extrude([(0, -0.6 * r), *peak, (0, 0.6 * r)], (0.3 * r, 0)),
            (0, 0, -drop + 0.04),
            (1, 1, 0.025),
            turn(y=d.real(-5, 20)),
        )
    elif kind == "visor":
        band = mesh.circle(12, -1.1, 1.1)
        a.add(
            "panel",
            mesh.ribbon(band * (1.02 * r), band * (1.1 * r)),
            (0, 0, -0.2 * r),
            (1, 1, d.real(0.15, 0.35) * r),
            turn(y=d.real(-20, 10)),
        )
    elif kind == "crest":
        ridge = mesh.circle(12, 0.2, 3)
        a.add(
            "detail",
            mesh.ribbon(ridge * (0.95 * r, 0.95 * tall), ridge * (1.15 * r, tall + d.real(0.08, 0.3))),
            (0, 0, 0),
            (1, 1, d.real(0.03, 0.07)),
            turn(x=90),
        )
    if d.chance(0.3):
        for s in (-1, 1):
            a.rod("detail", (0, s * 0.85 * r, -drop), (0, s * 0.3 * r, -drop - 0.7 * r), 0.03)
            a.ball("detail", (0, s * 0.95 * r, -0.3 * drop), (0.2, 0.07, 0.25))
    return a


def ladder(d: Draws) -> Assembly:
    """A ladder: a straight one, which may lean, or a step ladder."""
    a, w, h = Assembly(), d.real(0.35, 0.7), d.real(1.5, 2.4)
    rungs, thick, square = d.count(4, 9), d.real(0.02, 0.05), d.chance(0.5)
    top = w * d.real(0.5, 1)
    side = Assembly()
    for s in (-1, 1):
        side.rod("leg", (s * w / 2, 0, 0), (s * top / 2, 0, h), thick, square=square)
    flat = d.chance(0.4)
    for k in range(rungs):
        f = (k + 0.7) / (rungs + 0.2)
        half = (w + (top - w) * f) / 2
        if flat:
            side.box("panel", (0, 0, f * h), (2 * half, d.real(3, 5) * thick, thick))
        else:
            side.rod("panel", (-half, 0, f * h), (half, 0, f * h), 0.7 * thick)
    if d.chance(0.5):
        lean = d.real(10, 22)
        a.place(side, (0, -h * math.sin(math.radians(lean)), 0), turn(x=-lean))
        other = Assembly()
        for s in (-1, 1):
            other.rod("leg", (s * w / 2, 0, 0), (s * top / 2, 0, h), 0.8 * thick, square=square)
        other.rod("leg", (-w / 2, 0, 0.25 * h), (w / 2, 0, 0.25 * h), 0.6 * thick)
        a.place(other, (0, h * math.sin(math.radians(lean)), 0), turn(x=lean))
        a.box("top", (0, 0, h * math.cos(math.radians(lean))), (1.1 * top, 0.25, 0.06))
    else:
        a.place(side, turned=turn(x=-d.real(-5, 25)))
    return a


def sculpture(d: Draws) -> Assembly:
    """A sculpture: a few primitives joined at random, with random part labels."""
    a, at = Assembly(), (0.0, 0.0, 0.0)
    for _ in range(d.count(2, 9)):
        kind = d.pick("box", "round box", "ball", "disc", "cone", "torus", "tube", "vase")
        size = (d.real(0.1, 0.6), d.real(0.1, 0.6), d.real(0.1, 0.6))
        facing = turn(d.real(-180, 180), d.real(-180, 180), 0) if d.chance(0.5) else turn(x=d.pick(0, 90))
        part = d.pick(*PARTS)
        if kind in ("box", "round box"):
            a.box(part, at, tuple(2 * s for s in size), facing, 0 if kind == "box" else d.real(0.2, 0.9) * min(size))  # type: ignore[arg-type]
        elif kind == "ball":
            a.ball(part, at, size, facing)
        elif kind in ("disc", "cone"):
            a.add(part, mesh.cylinder(1.0 if kind == "disc" else d.count(0, 12) / 20), at, size, facing)
        elif kind == "torus":
            a.add(part, mesh.torus(size[0], size[1] * 0.4, d.pick(1, 0.75, 0.5) * 2 * math.pi), at, turned=facing)
        elif kind == "tube":
            path = mesh.smooth(d.rng.uniform(-0.7, 0.7, (4, 3)))
            a.add(
                part, mesh.sweep(path, np.linspace(d.real(0.05, 0.2), d.real(0.05, 0.2), len(path))), at, turned=facing
            )
        else:
            line = np.stack([d.rng.uniform(0.1, 0.6, 5), np.linspace(-0.5, 0.5, 5)], axis=1)
            a.add(part, mesh.lathe(np.concatenate([[(0, -0.5)], mesh.smooth(line), [(0, 0.5)]])), at, turned=facing)
        at = tuple(p + d.real(-1, 1) * s for p, s in zip(at, size, strict=True))  # type: ignore[assignment]
    return a
