"""Furniture to sit and lie on."""

import math

from geo3d.data.shapes import mesh
from geo3d.data.shapes.assembly import Assembly
from geo3d.data.shapes.placing import Draws, turn


def legs(a: Assembly, d: Draws, width: float, depth: float, height: float, style: str | None = None) -> None:
    """Add legs, or another support, under a board of ``width`` x ``depth`` whose underside is at ``height``."""
    style = style or d.pick("straight", "straight", "splayed", "pedestal", "sled", "star", "panels", "trestle")
    thick = d.real(0.02, 0.055) * max(width, depth)
    w, t = width / 2 - thick * d.real(1, 2), depth / 2 - thick * d.real(1, 2)
    up = height + 0.02
    if style in ("straight", "splayed"):
        out = d.real(1.1, 1.4) if style == "splayed" else 1.0
        square, top, flat = d.chance(0.5), d.real(1.0, 1.6), d.pick(1.0, 1.0, d.real(0.5, 1.5))
        feet = [(x * w, y * t) for x in (-1, 1) for y in (-1, 1)]
        if d.chance(0.1):
            feet = [(w * math.cos(k), t * math.sin(k)) for k in (0.5, 2.6, 4.7)]
        for x, y in feet:
            a.rod("leg", (out * x, out * y, 0), (x, y, up), thick / top, top=top, square=square, flat=flat)
        if d.chance(0.4) and len(feet) == 4:
            low, bar = d.real(0.15, 0.6) * height, thick * d.real(0.4, 0.7)
            o = 1 + (out - 1) * (1 - low / height)
            for s in (-1, 1):
                a.rod("leg", (-o * w, s * o * t, low), (o * w, s * o * t, low), bar, square=square)
                if d.chance(0.7):
                    a.rod("leg", (s * o * w, -o * t, low), (s * o * w, o * t, low), bar, square=square)
    elif style in ("pedestal", "star"):
        foot = d.real(0.25, 0.48) * min(width, depth)
        a.rod("shaft", (0, 0, 0.02), (0, 0, up), thick * d.real(0.8, 2), top=d.real(0.5, 1.2))
        if style == "pedestal" and d.chance(0.6):
            a.disc("base", (0, 0, 0.02), foot, d.real(0.03, 0.08), top=d.real(0.2, 1))
        elif style == "pedestal":
            a.box("base", (0, 0, 0.02), (2 * foot, 2 * foot, 0.05))
        else:
            arms = d.count(3, 6)
            for k in range(arms):
                x, y = (1.3 * foot * f(2 * math.pi * k / arms) for f in (math.cos, math.sin))
                a.rod("base", (0, 0, d.pick(0.06, 0.15)), (x, y, 0.04), thick * 0.9, top=0.6, flat=0.7)
                if arms > 4:
                    a.ball("wheel", (x, y, 0.03), (0.035, 0.035, 0.035))
    elif style == "sled":
        bar = thick * 0.6
        for s in (-1, 1):
            loop = [(s * w, -t, up), (s * w, -t, 0.0), (s * w, t, 0.0), (s * w, t, up)]
            a.add("leg", mesh.sweep(mesh.smooth(loop, 3), bar, side=(1, 0, 0)))
    elif style == "panels":
        for s in (-1, 1):
            a.box("leg", (s * w, 0, up / 2), (1.3 * thick, depth * d.real(0.8, 1), up))
        if d.chance(0.6):
            a.box("panel", (0, d.pick(0.0, t), height * 0.6), (2 * w, thick, height * d.real(0.3, 0.8)))
    else:
        for s in (-1, 1):
            for y in (-1, 1):
                a.rod("leg", (s * w, y * t, 0), (s * w, 0.2 * y * t, up), thick * 0.8, square=True)
            a.box("leg", (s * w, 0, 0.4 * height), (thick, t, thick))
        a.box("leg", (0, 0, 0.4 * height), (2 * w, thick, thick))


def backrest(d: Draws, width: float, height: float, thick: float) -> Assembly:
    """A backrest that stands on the origin, in the plane of x and z."""
    a, style = Assembly(), d.pick("solid", "solid", "slats", "bars", "frame", "oval", "curved", "ladder")
    post = thick * d.real(0.5, 0.9)
    if style in ("slats", "bars", "frame", "ladder"):
        square = d.chance(0.5)
        for s in (-1, 1):
            a.rod(
                "back",
                (s * (width / 2 - post), 0, -0.04),
                (s * (width / 2 - post), 0, height),
                post,
                top=d.real(0.7, 1),
                square=square,
            )
        a.box("back", (0, 0, height - thick), (width, 1.4 * post, d.real(1.5, 4) * thick), radius=d.pick(0, 0.6 * post))
        number = d.count(2, 7)
        for k in range(number):
            f = (k + 1) / (number + 1)
            if style == "slats":
                a.box("back", ((f - 0.5) * width, 0, height / 2), (width * d.real(0.3, 0.6) / number, post, height))
            elif style == "bars":
                a.rod("back", ((f - 0.5) * width, 0, 0), ((f - 0.5) * width, 0, height), post * 0.5)
            elif style == "ladder":
                a.box("back", (0, 0, f * height), (width, post, 0.5 * height / number))
        if style == "frame":
            a.box("soft", (0, 0, 0.6 * height), (width * 0.9, post, height * d.real(0.3, 0.7)), radius=post * 0.4)
    elif style == "oval":
        a.ball("back", (0, 0, height * 0.55), (width / 2, thick, height * 0.48))
        a.rod("back", (0, 0, -0.04), (0, 0, height * 0.5), thick * 0.8)
    elif style == "curved":
        arc = mesh.circle(12, math.radians(90 - d.real(30, 60)), math.radians(120)) * (width * 0.62) - (0, width * 0.55)
        left = arc * (1 + thick / width)
        a.add("back", mesh.ribbon(arc, left), (0, 0.02, height / 2), (1, 1, height / 2))
    else:
        a.box("back", (0, 0, height / 2 - 0.02), (width, thick, height), radius=d.pick(0, 0.3, 0.5) * thick)
    return a


def chair(d: Draws) -> Assembly:
    """A chair: seat, back, legs or another support, sometimes arms."""
    a = Assembly()
    w, t, h = d.real(0.85, 1.2), d.real(0.8, 1.1), d.real(0.75, 1.1)
    thick = d.real(0.05, 0.2)
    if d.chance(0.25):
        a.ball("seat", (0, 0, h), (0.55 * w, 0.55 * t, thick))
    else:
        a.box("seat", (0, 0, h), (w, t, thick), radius=d.pick(0.0, 0.3, 0.5) * thick)
    legs(a, d, w, t, h - thick / 2)
    a.place(
        backrest(d, w * d.real(0.75, 1), d.real(0.6, 1.4), d.real(0.05, 0.14)),
        (0, t / 2 - 0.06, h),
        turn(x=-d.real(-2, 22)),
    )
    if d.chance(0.35):
        rise, bar, square = d.real(0.25, 0.45), d.real(0.03, 0.06), d.chance(0.5)
        for s in (-1, 1):
            x = s * (w / 2 + 0.02)
            a.box("arm", (x, 0, h + rise), (2.5 * bar, t * d.real(0.6, 1), 1.4 * bar), radius=d.pick(0, 0.5) * bar)
            a.rod("arm", (x, -t * 0.3, h - 0.02), (x, -t * 0.35, h + rise), bar, square=square)
            a.rod("arm", (x, t * 0.35, h - 0.02), (x, t * 0.35, h + rise), bar, square=square)
    return a


def stool(d: Draws) -> Assembly:
    """A stool: a seat without a back, low or as high as a bar stool."""
    a, w, h = Assembly(), d.real(0.5, 0.9), d.real(0.6, 1.6)
    thick = d.real(0.06, 0.2)
    kind = d.pick("round", "square", "cushion", "saddle")
    if kind == "round":
        a.disc("seat", (0, 0, h), w / 2, thick, top=d.real(0.85, 1.15))
    elif kind == "cushion":
        a.disc("seat", (0, 0, h), w / 2, thick)
        a.ball("soft", (0, 0, h + thick / 2), (w * 0.47, w * 0.47, d.real(0.05, 0.15)))
    else:
        a.box("seat", (0, 0, h), (w, w * d.real(0.6, 1), thick), radius=0.5 * thick if kind == "saddle" else 0)
    inner = w * d.real(0.6, 0.9)
    legs(a, d, inner, inner, h, d.pick("straight", "splayed", "splayed", "pedestal", "star", "sled", "trestle"))
    if d.chance(0.35):
        a.add("leg", mesh.torus(w * d.real(0.35, 0.5), 0.025), (0, 0, h * d.real(0.2, 0.5)))
    return a


def sofa(d: Draws) -> Assembly:
    """A sofa or armchair: low seat, back, two arms, cushions, sometimes a corner."""
    a, places = Assembly(), d.pick(1, 2, 3, 3)
    w, t, h = places * d.real(0.6, 0.8), d.real(0.75, 1), d.real(0.22, 0.4)
    low, soft = d.pick(0.0, d.real(0.06, 0.2)), d.pick(0.0, 0.05, 0.1)
    arm, back = d.real(0.1, 0.25), d.real(0.35, 0.7)
    a.box("seat", (0, 0, low + h / 2), (w, t, h), radius=soft)
    a.box("back", (0, t / 2, low + (h + back) / 2), (w, d.real(0.14, 0.25), h + back), turn(x=-d.real(0, 12)), soft)
    rise = h + d.real(0.1, 0.3)
    style = d.pick("block", "block", "roll", "none", "slope")
    for s in (-1, 1):
        if style in ("block", "roll"):
            a.box("arm", (s * (w + arm) / 2, 0, low + rise / 2), (arm, t, rise), radius=soft)
        if style == "roll":
            a.rod(
                "arm", (s * (w + arm) / 2, -t / 2 - 0.03, low + rise), (s * (w + arm) / 2, t / 2, low + rise), 0.7 * arm
            )
        if style == "slope":
            a.box("arm", (s * (w / 2 + 0.05), 0, low + rise / 2), (0.12, t, rise), turn(y=s * 14), soft)
    if d.chance(0.7):
        wide = w / places
        for k in range(places):
            x = (k + 0.5) * wide - w / 2
            a.box("soft", (x, -0.05, low + h + 0.04), (0.96 * wide, 0.8 * t, 0.16), radius=0.07)
            if d.chance(0.7):
                a.box("soft", (x, t / 2 - 0.16, low + h + 0.25), (0.9 * wide, 0.14, 0.4), turn(x=-14), 0.06)
    if places > 1 and d.chance(0.25):
        s = d.pick(-1, 1)
        a.box("seat", (s * (w / 2 - 0.3), -t * 0.8, low + h / 2), (0.6, t, h), radius=soft)
    if low:
        legs(a, d, w + arm, t, low + 0.02, d.pick("straight", "splayed", "sled"))
    return a


def bench(d: Draws) -> Assembly:
    """A bench: a long board or planks on legs, with or without a back."""
    a, w, t, h = Assembly(), d.real(1.6, 2.6), d.real(0.4, 0.7), d.real(0.4, 0.65)
    planks = d.pick(1, 1, 3, 4, 5)
    for k in range(planks):
        a.box("seat", (0, ((k + 0.5) / planks - 0.5) * t, h), (w, 0.85 * t / planks, d.real(0.05, 0.1)))
    legs(a, d, 0.9 * w, t, h, d.pick("straight", "splayed", "panels", "trestle", "sled"))
    if d.chance(0.55):
        a.place(backrest(d, w, d.real(0.4, 0.7), 0.06), (0, t / 2, h), turn(x=-d.real(0, 15)))
    return a


def bed(d: Draws) -> Assembly:
    """A bed: mattress, headboard, pillows, frame or legs, sometimes a bunk or posts."""
    a, w, t = Assembly(), d.real(0.8, 1.8), d.real(1.8, 2.1)
    low, thick = d.real(0.1, 0.35), d.real(0.15, 0.3)
    bunk = d.chance(0.15)
    for level in (0.0, 1.1) if bunk else (0.0,):
        a.box("body", (0, 0, level + low), (w + 0.06, t + 0.06, d.real(0.08, 0.25)), radius=d.pick(0, 0, 0.03))
        a.box("soft", (0, 0, level + low + 0.1 + thick / 2), (w, t, thick), radius=d.real(0.03, 0.1))
        pillows = 1 if w < 1.1 else d.pick(1, 2)
        for k in range(pillows):
            x = (k - (pillows - 1) / 2) * w * 0.48
            a.box(
                "soft",
                (x, t / 2 - 0.25, level + low + thick + 0.14),
                (0.8 * w / pillows, 0.35, 0.16),
                turn(x=d.real(0, 25)),
                0.075,
            )
    head = d.real(0.4, 0.9)
    if d.chance(0.85):
        a.place(backrest(d, w + 0.1, head + 0.2, 0.08), (0, t / 2 + 0.05, low))
    if d.chance(0.4):
        a.box("panel", (0, -t / 2 - 0.05, low + 0.1), (w + 0.1, 0.07, d.real(0.3, 0.6)), radius=d.pick(0, 0.03))
    posts = 2.0 if bunk or d.chance(0.12) else low
    if d.chance(0.75) or posts > 1:
        square, thick = d.chance(0.5), d.real(0.03, 0.06)
        for x in (-1, 1):
            for y in (-1, 1):
                a.rod("leg", (x * w / 2, y * t / 2, 0), (x * w / 2, y * t / 2, posts), thick, square=square)
    if d.chance(0.3):
        a.box("soft", (0, -t * 0.15, low + thick + 0.2), (w + 0.12, t * 0.65, 0.14), radius=0.06)
    return a
