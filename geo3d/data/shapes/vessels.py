"""Hollow things: mostly surfaces of revolution, with handles, spouts, rims and feet."""

import math

import numpy as np

from geo3d.data.shapes import mesh
from geo3d.data.shapes.assembly import Assembly
from geo3d.data.shapes.mesh import Surface
from geo3d.data.shapes.placing import Draws, turn
from geo3d.data.shapes.seats import legs


def wall(outer: list[tuple[float, float]], thick: float, times: int = 2) -> Surface:
    """A vessel with a wall of thickness ``thick``; ``outer`` is the outer profile, from the bottom's edge upwards."""
    line = mesh.smooth(outer, times)
    inner = (line - (thick, 0))[::-1]
    inner[:, 1] = np.maximum(inner[:, 1], line[0, 1] + thick)
    inner[:, 0] = np.maximum(inner[:, 0], 0.01)
    return mesh.lathe(np.concatenate([[(0, line[0, 1])], line, inner, [(0, line[0, 1] + thick)]]))


def grip(a: Assembly, d: Draws, x: float, low: float, high: float, reach: float) -> None:
    """Add a handle at the radius ``x`` between two heights: an ear, a ring or a square one."""
    thick = d.real(0.06, 0.12) * (high - low + reach) / 1.2
    kind, middle = d.pick("ear", "ear", "ring", "square"), (low + high) / 2
    if kind == "ring":
        half = (high - low) / 2
        a.add("handle", mesh.torus(half, thick), (x + 0.3 * half, 0, middle), turned=turn(x=90))
        return
    loop = [
        (x - 0.04, 0, high),
        (x + reach, 0, high + d.real(-0.05, 0.05)),
        (x + reach, 0, low + d.real(0, 0.4) * (middle - low)),
        (x - 0.04, 0, low),
    ]
    a.add("handle", mesh.sweep(mesh.smooth(loop, 3 if kind == "ear" else 1), (thick), side=(0, 1, 0)))


def bottle(d: Draws) -> Assembly:
    """A bottle, flask or jar: body, shoulder, neck, cap; round or square."""
    a, r, h = Assembly(), d.real(0.2, 0.5), d.real(0.7, 1.6)
    neck, rise = r * d.real(0.2, 0.55), h + d.real(0.1, 0.5)
    line = [
        (r * d.real(0.7, 1), 0),
        (r, 0.06),
        (r * d.real(0.8, 1.1), 0.4 * h),
        (r * d.real(0.7, 1.15), 0.75 * h),
        (neck * d.real(1, 2), h),
        (neck, h + 0.06),
        (neck, rise),
    ]
    if d.chance(0.25):
        size = 2 * r * d.real(0.5, 1)
        a.box("body", (0, 0, h / 2), (2 * r, size, h), radius=d.real(0.03, 0.12))
        a.rod("shaft", (0, 0, h - 0.1), (0, 0, rise), neck)
    else:
        profile = np.concatenate([[(0, 0)], mesh.smooth(line, d.count(1, 2)), [(0, rise)]])
        a.add("body", mesh.lathe(profile))
    cap = d.pick("none", "cap", "cork", "pump")
    if cap == "cap":
        a.disc("top", (0, 0, rise), neck * d.real(1.1, 1.6), d.real(0.08, 0.25), top=d.real(0.7, 1))
    elif cap == "cork":
        a.ball("top", (0, 0, rise + 0.02), (neck, neck, neck))
    elif cap == "pump":
        a.rod("top", (0, 0, rise - 0.05), (0, 0, rise + 0.2), 0.4 * neck)
        a.rod("top", (-0.05, 0, rise + 0.2), (0.28, 0, rise + 0.17), 0.05, top=0.6)
    if d.chance(0.2):
        grip(a, d, r * 0.8, 0.4 * h, 0.95 * h, r * 0.7)
    return a


def vase(d: Draws) -> Assembly:
    """A vase, pot or urn: a free profile, open above, sometimes with ears and flowers."""
    a, h = Assembly(), d.real(0.7, 1.5)
    line = (
        [(d.real(0.15, 0.4), 0)]
        + [(d.real(0.12, 0.55), f * h) for f in (0.2, 0.45, 0.7, 0.85)]
        + [(d.real(0.12, 0.5), h)]
    )
    if d.chance(0.3):
        line = [(line[0][0] + 0.1, 0), (line[0][0] + 0.1, 0.05), (0.1, 0.08)] + line[1:]
    a.add("body", wall(line, d.real(0.02, 0.06)))
    if d.chance(0.3):
        x = (line[-2][0] + line[-3][0]) / 2
        one = Assembly()
        grip(one, d, x - 0.03, 0.55 * h, 0.8 * h, d.real(0.1, 0.25))
        a.place(one)
        a.place(one, turned=turn(z=180))
    if d.chance(0.3):
        for _ in range(d.count(1, 4)):
            x, y, top = d.real(-0.3, 0.3), d.real(-0.3, 0.3), h + d.real(0.2, 0.6)
            a.add("shaft", mesh.sweep(mesh.smooth([(0, 0, 0.3 * h), (0.1 * x, 0.1 * y, h), (x, y, top)]), 0.018))
            a.ball("soft", (x, y, top), (d.real(0.06, 0.13),) * 3)
    return a


def cup(d: Draws) -> Assembly:
    """A cup, mug or goblet: a thick wall, a handle or a stem, sometimes a saucer or a lid."""
    a, r, h = Assembly(), d.real(0.3, 0.5), d.real(0.4, 1)
    low, up = r * d.real(0.6, 1.1), r * d.real(0.85, 1.15)
    stem = d.chance(0.2)
    base = d.real(0.3, 0.7) if stem else 0.0
    line = [(low, base), (d.real(0.9, 1.15) * (low + up) / 2, base + 0.5 * h), (up, base + h)]
    if stem:
        a.add("body", wall([(0.05, base), (low, base + 0.1), *line[1:]], 0.035))
        a.rod("shaft", (0, 0, 0.02), (0, 0, base + 0.05), d.real(0.04, 0.08))
        a.disc("base", (0, 0, 0.03), d.real(0.25, 0.4), 0.06, top=0.3)
        return a
    a.add("body", wall(line, d.real(0.03, 0.07), d.count(0, 2)))
    if d.chance(0.9):
        grip(a, d, (low + up) / 2, d.real(0.12, 0.3) * h, d.real(0.7, 0.92) * h, d.real(0.18, 0.4))
    if d.chance(0.25):
        a.add("base", wall([(0.3, -0.06), (d.real(0.6, 0.8), 0.04)], 0.03))
    if d.chance(0.12):
        a.disc("top", (0, 0, h), up * 1.08, 0.1, top=0.8)
    return a


def bowl(d: Draws) -> Assembly:
    """A bowl, dish or pan: wide and open, on a foot, with handles or not."""
    a, r, h = Assembly(), d.real(0.6, 1), d.real(0.15, 0.65)
    low = r * d.real(0.25, 0.75)
    line = [(low, 0), (low + d.real(0.3, 0.9) * (r - low), d.real(0.05, 0.4) * h), (r, h)]
    if d.chance(0.3):
        line.append((r + d.real(0.05, 0.25), h + d.real(0, 0.05)))
    a.add("body", wall(line, d.real(0.03, 0.07)))
    if d.chance(0.4):
        a.add("base", wall([(low * d.real(0.8, 1.2), -d.real(0.08, 0.3)), (low * 0.8, 0.02)], 0.05, 0))
    kind = d.pick("none", "none", "pan", "ears")
    if kind == "pan":
        a.rod(
            "handle",
            (0.9 * r, 0, 0.85 * h),
            (r + d.real(0.5, 1.1), 0, h + d.real(0, 0.2)),
            0.07,
            top=d.real(0.6, 1.3),
            flat=d.real(0.4, 1),
        )
    elif kind == "ears":
        one = Assembly()
        one.add("handle", mesh.torus(0.2 * r, 0.04), (1.05 * r, 0, 0.85 * h))
        a.place(one)
        a.place(one, turned=turn(z=180))
    return a


def teapot(d: Draws) -> Assembly:
    """A teapot, kettle or watering can: body, lid, spout, handle."""
    a, r, h = Assembly(), d.real(0.4, 0.6), d.real(0.5, 0.95)
    low, up = r * d.real(0.5, 0.9), r * d.real(0.4, 0.8)
    a.add(
        "body",
        mesh.lathe(np.concatenate([[(0, 0)], mesh.smooth([(low, 0), (r, 0.25 * h), (r, 0.7 * h), (up, h)]), [(0, h)]])),
    )
    if d.chance(0.85):
        a.add(
            "top",
            mesh.cylinder(round(d.real(0.2, 0.7), 1)),
            (0, 0, h + 0.04),
            (up * 0.95, up * 0.95, d.real(0.05, 0.1)),
        )
        a.ball("handle", (0, 0, h + 0.15), (0.06, 0.06, 0.06))
    tip, reach = h * d.real(0.8, 1.15), r + d.real(0.3, 0.55)
    spout = mesh.smooth([(0.7 * r, 0, 0.25 * h), (r + 0.1, 0, 0.35 * h), (reach - 0.08, 0, 0.9 * tip), (reach, 0, tip)])
    a.add("arm", mesh.sweep(spout, np.linspace(d.real(0.1, 0.16), 0.05, len(spout)), side=(0, 1, 0)))
    if d.chance(0.65):
        one = Assembly()
        grip(one, d, 0.85 * r, 0.25 * h, 0.85 * h, d.real(0.25, 0.4))
        a.place(one, turned=turn(z=180))
    else:
        wide = 0.8 * r
        loop = mesh.smooth([(-wide, 0, 0.7 * h), (-wide, 0, h + 0.45), (wide, 0, h + 0.45), (wide, 0, 0.7 * h)], 3)
        a.add("handle", mesh.sweep(loop, 0.04, side=(0, 1, 0)))
    return a


def bathtub(d: Draws) -> Assembly:
    """A bathtub: an oblong vessel on feet, a plinth or a block, with a tap."""
    a, r, h = Assembly(), d.real(0.38, 0.5), d.real(0.4, 0.65)
    long, low = d.real(1.6, 2.3), d.real(0.6, 0.95)
    line = [(low * r, 0), (d.real(0.9, 1) * r, 0.3 * h), (r, h)]
    if d.chance(0.6):
        line.append((r + 0.06, h + 0.02))
    if d.chance(0.55):
        a.add("body", wall(line, 0.06), size=(long, 1, 1))
    else:
        w, t, thick = r * long, r, 0.07
        for s in (-1, 1):
            a.box("body", (s * w, 0, h / 2), (thick, 2 * t, h), turn(y=s * d.real(0, 12)))
            a.box("body", (0, s * t, h / 2), (2 * w, thick, h))
            a.box("top", (0, s * t, h), (2 * w + 0.1, 0.12, 0.05))
        a.box("base", (0, 0, 0.08), (2 * w, 2 * t, 0.08))
    if d.chance(0.35):
        feet = Assembly()
        legs(feet, d, 1.2 * r * long, 1.1 * r, 0.12, "straight")
        a.place(feet, (0, 0, -0.1))
    x = d.pick(-1, 1) * r * long * d.real(0.85, 1)
    tap = mesh.smooth([(x, 0, h - 0.05), (x, 0, h + 0.3), (x * 0.85, 0, h + 0.3), (x * 0.8, 0, h + 0.15)])
    if d.chance(0.7):
        a.add("detail", mesh.sweep(tap, d.real(0.025, 0.045), side=(0, 1, 0)))
        for s in (-1, 1):
            a.ball("detail", (x, 0.12 * s, h + 0.06), (0.04, 0.04, 0.05))
    return a


def toilet(d: Draws) -> Assembly:
    """A toilet: bowl on a foot, seat, lid up or down, cistern."""
    a, r, h = Assembly(), d.real(0.32, 0.42), d.real(0.65, 0.85)
    long, foot = d.real(1.1, 1.4), d.real(0.4, 0.75)
    hollow = d.chance(0.7)
    line = mesh.smooth([(foot * r, 0), (foot * r * d.real(0.7, 1), 0.3 * h), (r, 0.7 * h), (r, h)])
    inner = mesh.smooth([(0.8 * r, h), (0.7 * r, 0.75 * h), (0.2 * r, 0.55 * h), (0.001, 0.55 * h)])
    a.add("body", mesh.lathe(np.concatenate([[(0, 0)], line, inner if hollow else [(0, h)]])), size=(1, long, 1))
    back = r * long
    if hollow:
        a.add(
            "seat", mesh.lathe(mesh.circle(10, -math.pi, math.pi) * (0.17 * r, 0.035) + (0.9 * r, h)), size=(1, long, 1)
        )
    if d.chance(0.8) or not hollow:
        tilt = d.pick(0, d.real(75, 100)) if hollow else 0
        lid = Assembly()
        lid.add("top", mesh.cylinder(0.9), (0, -back, 0.04), (r, back, 0.03))
        a.place(lid, (0, 0.92 * back, h + 0.02), turn(x=-tilt))
    if d.chance(0.85):
        w, t, tall = d.real(0.7, 1), d.real(0.2, 0.32), d.real(0.45, 0.85)
        a.box("back", (0, back + t / 2, h + tall / 2 - 0.1), (w, t, tall), radius=d.pick(0, 0.03, 0.07))
        a.box("top", (0, back + t / 2, h + tall - 0.1), (w + 0.05, t + 0.05, 0.07), radius=0.02)
        a.rod("detail", (-0.3 * w, back, h + 0.75 * tall - 0.1), (-0.3 * w, back - 0.06, h + 0.75 * tall - 0.1), 0.04)
    a.box("base", (0, 0.7 * back, 0.5 * h), (foot * r * 1.3, 0.8 * back, h * 0.95), radius=d.pick(0, 0.08))
    return a
