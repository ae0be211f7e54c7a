"""Tables and furniture to put things on or into."""

from geo3d.data.shapes import mesh
from geo3d.data.shapes.assembly import Assembly
from geo3d.data.shapes.placing import Draws, turn
from geo3d.data.shapes.seats import legs


def table(d: Draws) -> Assembly:
    """A table: a top of some outline on legs, trestles, panels or a pedestal."""
    a, w = Assembly(), d.real(0.8, 2)
    t, h, thick = w * d.real(0.45, 1), d.real(0.35, 1), d.real(0.03, 0.12)
    kind = d.pick("board", "board", "round", "oval", "soft")
    if kind in ("round", "oval"):
        t = w if kind == "round" else t
        a.add("top", mesh.cylinder(), (0, 0, h), (w / 2, t / 2, thick / 2))
        w, t = 0.8 * w, 0.8 * t
    else:
        a.box("top", (0, 0, h), (w, t, thick), radius=0.5 * thick if kind == "soft" else 0)
        if d.chance(0.3):
            a.box("panel", (0, 0, h - thick), (w * 0.88, t * 0.88, d.real(0.08, 0.2)))
    legs(a, d, w, t, h - thick / 2)
    if d.chance(0.15):
        a.box("top", (0, 0, d.real(0.2, 0.5) * h), (0.9 * w, 0.9 * t, thick))
    return a


def drawers(
    a: Assembly, d: Draws, at: tuple[float, float, float], size: tuple[float, float, float], rows: int, columns: int = 1
) -> None:
    """Add drawer fronts, some with knobs or grips, to the -y side of a box."""
    (x, y, z), (w, t, h) = at, size
    grip, depth, chest = d.pick("knob", "bar", "none", "slot"), d.real(0.015, 0.04), d.real(0.86, 0.96)
    for row in range(rows):
        for column in range(columns):
            px, pz = x + ((column + 0.5) / columns - 0.5) * w, z + ((row + 0.5) / rows - 0.5) * h
            if d.chance(0.1):
                depth *= d.real(1, 4)
            face = y - t / 2 - depth / 2
            a.box("panel", (px, face + 0.005, pz), (chest * w / columns, depth + 0.01, 0.9 * chest * h / rows))
            if grip == "knob":
                a.ball("handle", (px, face - depth, pz), (0.025, 0.025, 0.025))
            elif grip == "bar":
                reach = 0.15 * w / columns
                a.rod("handle", (px - reach, face - depth, pz), (px + reach, face - depth, pz), 0.014)


def desk(d: Draws) -> Assembly:
    """A desk: a top with drawers on one or both sides, panels, sometimes a shelf above."""
    a, w, t, h = Assembly(), d.real(1.2, 2), d.real(0.55, 0.9), d.real(0.65, 0.85)
    thick, box = d.real(0.03, 0.08), d.real(0.25, 0.45)
    a.box("top", (0, 0, h), (w, t, thick), radius=d.pick(0, 0, 0.4 * thick))
    sides = d.pick((-1,), (1,), (-1, 1), (-1, 1), ())
    high = h * d.pick(1.0, 1.0, 0.45)
    for s in (-1, 1):
        x = s * (w / 2 - box / 2 - 0.02)
        if s in sides:
            low = h - high + 0.02
            a.box("body", (x, 0, (h + low) / 2), (box, 0.92 * t, h - low))
            drawers(a, d, (x, 0, (h + low) / 2), (box, 0.92 * t, h - low), d.count(1, 4))
            if high == h:
                continue
        if d.chance(0.5):
            a.box("leg", (s * (w / 2 - 0.04), 0, h / 2), (0.05, 0.9 * t, h))
        else:
            for y in (-1, 1):
                a.rod(
                    "leg",
                    (s * (w / 2 - 0.05), y * 0.42 * t, 0),
                    (s * (w / 2 - 0.05), y * 0.42 * t, h),
                    0.03,
                    square=d.chance(0.5),
                )
    if d.chance(0.6):
        a.box("panel", (0, 0.42 * t, h * 0.65), (0.92 * w, 0.03, h * d.real(0.3, 0.65)))
    if d.chance(0.35):
        rise = d.real(0.25, 0.7)
        for s in (-1, 0, 1):
            a.box("panel", (s * 0.45 * w, 0.35 * t, h + rise / 2), (0.03, 0.25 * t, rise))
        a.box("top", (0, 0.35 * t, h + rise), (0.95 * w, 0.28 * t, 0.03))
    if d.chance(0.2):
        s = d.pick(-1, 1)
        a.box("top", (s * (w / 2 - 0.25), -t, h), (0.5, 1.2 * t, thick))
        a.box("leg", (s * (w / 2 - 0.25), -1.5 * t, h / 2), (0.45, 0.05, h))
    return a


def shelf(d: Draws) -> Assembly:
    """A shelf: boards between uprights, with or without a back, sometimes with books."""
    a, w, t, h = Assembly(), d.real(0.5, 1.4), d.real(0.22, 0.45), d.real(0.7, 2)
    thick, rows, columns = d.real(0.02, 0.05), d.count(2, 6), d.pick(1, 1, 1, 2, 3)
    open_frame = d.chance(0.3)
    for k in range(columns + 1):
        x = (k / columns - 0.5) * w
        if open_frame:
            for y in (-1, 1):
                a.rod("leg", (x, y * 0.45 * t, 0), (x, y * 0.45 * t, h), 0.6 * thick, square=d.chance(0.5))
        else:
            a.box("panel", (x, 0, h / 2), (thick, t, h))
    stagger = d.chance(0.15)
    for row in range(rows + 1):
        z = 0.04 + row / rows * (h - 0.05)
        x = d.real(-0.15, 0.15) if stagger else 0.0
        a.box("top", (x, 0, z), (w * (0.7 if stagger else 1), t, thick))
        if row < rows and d.chance(0.4):
            at, side = x - 0.4 * w, d.real(0.3, 0.9) * h / rows
            for _ in range(d.count(1, 4)):
                book = d.real(0.03, 0.1)
                a.box("detail", (at + book / 2, 0, z + side / 2), (book, t * 0.7, side * d.real(0.7, 1)))
                at += book + 0.005
    if not open_frame and d.chance(0.5):
        a.box("back", (0, t / 2, h / 2), (w, 0.015, h))
    return a


def cabinet(d: Draws) -> Assembly:
    """A cabinet, dresser, night stand or wardrobe: a box with drawers or doors on feet."""
    a, w, t = Assembly(), d.real(0.45, 1.6), d.real(0.35, 0.6)
    h, low = d.pick(d.real(0.4, 0.8), d.real(0.7, 1.2), d.real(1.4, 2)), d.pick(0.02, d.real(0.05, 0.25))
    kind = d.pick("drawers", "drawers", "doors", "both", "open")
    if kind != "open":
        a.box("body", (0, 0, low + h / 2), (w, t, h), radius=d.pick(0, 0, 0.03))
    if kind == "open":
        for x in (-1, 1):
            a.box("body", (x * w / 2, 0, low + h / 2), (0.04, t, h))
        for z in (0.0, 1.0, d.real(0.4, 0.7)):
            a.box("body", (0, 0, low + z * h), (w, t, 0.04))
        a.box("back", (0, t / 2, low + h / 2), (w, 0.03, h))
        drawers(a, d, (0, 0.05, low + 0.2 * h), (w, t, 0.4 * h), 1, d.pick(1, 2))
    elif kind == "both":
        cut = d.real(0.5, 0.75)
        drawers(a, d, (0, 0, low + cut * h / 2), (w, t, cut * h), 1, 2)
        drawers(a, d, (0, 0, low + (1 + cut) * h / 2), (w, t, (1 - cut) * h), d.count(1, 2), d.pick(1, 2))
    else:
        rows = d.count(2, 5) if kind == "drawers" else 1
        drawers(a, d, (0, 0, low + h / 2), (w, t, h), rows, d.pick(1, 2) if kind == "drawers" else d.pick(1, 2, 2, 3))
    if d.chance(0.6):
        a.box("top", (0, -0.02, low + h), (w + d.real(0.02, 0.1), t + 0.06, d.real(0.02, 0.07)))
    if low > 0.03:
        legs(a, d, w, t, low, d.pick("straight", "splayed", "panels", "sled"))
    if h < 1.2 and d.chance(0.15):
        a.box("panel", (0, t / 2, low + h * 1.4), (0.6 * w, 0.04, 0.8 * h), radius=0.015)
    return a


def piano(d: Draws) -> Assembly:
    """A piano, upright or grand, with keys and sometimes a stool."""
    a, keys = Assembly(), d.count(8, 14)
    if d.chance(0.5):
        w, h = d.real(1.3, 1.7), d.real(0.95, 1.4)
        a.box("body", (0, 0.2, h / 2), (w, d.real(0.3, 0.45), h), radius=d.pick(0, 0.02))
        for s in (-1, 1):
            a.box("arm", (s * (w / 2 - 0.04), -0.12, 0.62), (0.08, 0.4, 0.25))
            a.rod("leg", (s * (w / 2 - 0.06), -0.27, 0), (s * (w / 2 - 0.06), -0.27, 0.55), 0.04, square=d.chance(0.5))
        a.box("top", (0, 0.18, h), (w + 0.06, 0.5, 0.04))
        z = 0.66
    else:
        w, long, z = d.real(1.3, 1.6), d.real(1.2, 2.2), 0.72
        side = mesh.smooth(
            [
                (w / 2, 0),
                (w / 2, 0.45 * long),
                (0.1 * w, 0.6 * long),
                (0.02 * w, 0.95 * long),
                (-0.3 * w, long),
                (-w / 2, 0.9 * long),
            ]
        )
        left = [(-w / 2, y) for y in side[:, 1]]
        case = mesh.ribbon(side, left)
        a.add("body", case, (0, -0.1, z - 0.05), (1, 1, d.real(0.12, 0.2)))
        if d.chance(0.6):
            a.add("top", case, (-w / 2 * 0.2, -0.1, z + 0.45), (1, 1, 0.02), turn(y=-d.real(20, 40)))
        for x, y in ((-0.42 * w, 0.05), (0.42 * w, 0.05), (-0.2 * w, 0.8 * long)):
            a.rod("leg", (x, y, 0), (x, y, z), 0.05, top=1.5, square=d.chance(0.5))
    a.box("panel", (0, -0.2, z - 0.04), (w - 0.1, 0.28, 0.08))
    for k in range(keys):
        a.box("detail", (((k + 0.5) / keys - 0.5) * (w - 0.16), -0.2, z + 0.02), (0.6 * (w - 0.16) / keys, 0.18, 0.05))
    if d.chance(0.5):
        a.box("seat", (0, -0.8, 0.45), (d.real(0.4, 0.8), 0.35, 0.08), radius=0.03)
        for x in (-0.15, 0.15):
            a.rod("leg", (x, -0.8, 0), (x, -0.8, 0.45), 0.04)
    return a
