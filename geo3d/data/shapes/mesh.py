"""Surfaces of parts: triangles with a normal at each corner, and the solid they enclose if it is a simple one.

Everything curved is a grid of quadrilaterals: an outline (whose sharp corners stay sharp) times a path. The normals
at the corners are those of the smooth surface, so that normals interpolated inside a triangle are smooth as well;
for cylinders, cones and ellipsoids they are exactly the normals of the round surface at the point above the triangle.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating[Any]]

SEGMENTS = 24
CREASE = math.cos(math.radians(38))


class Surface(NamedTuple):
    """The triangles of one part, in the coordinates of that part."""

    corner: Array
    """(F, 3, 3) corners of every triangle"""
    normal: Array
    """(F, 3, 3) outward unit normals at the corners"""
    across: Array
    """(F, 3) vectors perpendicular to the triangles; their lengths are the areas"""
    solid: str | None = None
    """'box', 'round' (a cylinder or cone along z) or 'ball' if the surface bounds that solid, else None"""
    half: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """half the extents of the solid"""
    top: float = 1.0
    """radius of a 'round' solid at its upper end, in units of that at its lower end"""


def array(values: ArrayLike) -> Array:
    """The values as a float32 array."""
    return np.asarray(values, dtype=np.float32)


def cross(a: Array, b: Array) -> Array:
    """(..., 3) cross products, computed faster than by ``np.cross``."""
    out = np.empty(np.broadcast_shapes(a.shape, b.shape), dtype=np.float32)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        out[..., i] = a[..., j] * b[..., k] - a[..., k] * b[..., j]
    return out


def unit(vector: Array) -> Array:
    """The same vectors with length one; zero stays zero."""
    return vector / np.maximum(np.sqrt((vector * vector).sum(-1, keepdims=True)), 1e-12)


def slope(values: Array) -> Array:
    """Central differences along the first axis, one-sided at the ends."""
    out = np.empty_like(values)
    out[1:-1] = (values[2:] - values[:-2]) / 2
    out[0], out[-1] = values[1] - values[0], values[-1] - values[-2]
    return out


def surface(corner: Array, normal: Array, **solid: Any) -> Surface:
    """A surface from corners and corner normals of any length, both (F, 3, 3)."""
    corner, normal = corner.astype(np.float32), unit(normal.astype(np.float32))
    across = cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]) / 2
    return Surface(corner, normal, across, **solid)


def join(*surfaces: Surface, **solid: Any) -> Surface:
    """One surface made of several."""
    corner, normal, across = (np.concatenate(column) for column in zip(*(s[:3] for s in surfaces), strict=True))
    return Surface(corner, normal, across, **solid)


def strips(pos: Array, normal: Array, **solid: Any) -> Surface:
    """S strips of quadrilaterals; ``pos`` and ``normal`` (S, 2, J, 3) are the two edges of each, with J corners."""
    corner, towards = (
        np.stack([x[:, i, j] for i, j in ((0, lo), (1, lo), (1, hi), (0, lo), (1, hi), (0, hi))], axis=2).reshape(
            -1, 3, 3
        )
        for x, lo, hi in ((pos, slice(None, -1), slice(1, None)), (normal, slice(None, -1), slice(1, None)))
    )
    return surface(corner, towards, **solid)


def outline(points: ArrayLike, closed: bool) -> tuple[Array, Array]:
    """(S, 2, 2) ends of the segments of a polyline, and (S, 2, 2) normals there, to the right of its direction.

    Where the line turns by less than 38 degrees, the normals of both segments are averaged, as on a smooth curve.
    """
    points = array(points)
    if closed:
        points = np.concatenate([points, points[:1]])
    step = points[1:] - points[:-1]
    length = np.sqrt((step * step).sum(1, keepdims=True))
    step = step / np.maximum(length, 1e-9)
    own = np.stack([step[:, 1], -step[:, 0]], axis=1)
    before, after = np.roll(own, 1, axis=0), np.roll(own, -1, axis=0)
    if not closed:
        before[0], after[-1] = own[0], own[-1]
    first = np.where((before * own).sum(1, keepdims=True) > CREASE, before + own, own)
    last = np.where((after * own).sum(1, keepdims=True) > CREASE, after + own, own)
    return np.stack([points[:-1], points[1:]], axis=1), np.stack([first, last], axis=1)


def circle(segments: int = SEGMENTS, start: float = 0.0, stop: float = 2 * math.pi) -> Array:
    """(segments + 1, 2) points of the unit circle from one angle to another, counter-clockwise."""
    angle = np.linspace(start, stop, segments + 1)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def smooth(points: ArrayLike, times: int = 2) -> Array:
    """A polyline with its corners cut ``times`` times (Chaikin); the ends stay where they are."""
    line = array(points)
    for _ in range(times):
        cut = np.stack([0.75 * line[:-1] + 0.25 * line[1:], 0.25 * line[:-1] + 0.75 * line[1:]], axis=1)
        line = np.concatenate([line[:1], cut.reshape(-1, line.shape[1])[1:-1], line[-1:]])
    return line


def lathe(profile: ArrayLike, segments: int = SEGMENTS, stop: float = 2 * math.pi, **solid: Any) -> Surface:
    """The surface swept by a profile (P, 2) of (radius, z) about z; outside is to the right of its direction.

    With fewer than ten segments the surface has that many flat sides instead of a round one.
    """
    ends, normals = outline(profile, closed=False)
    ring = circle(segments, 0.0, stop)

    def around(flat: Array, ring: Array) -> Array:
        out = np.empty((*flat.shape[:2], len(ring), 3), dtype=np.float32)
        out[..., :2] = flat[:, :, None, :1] * ring
        out[..., 2] = flat[:, :, None, 1]
        return out

    if segments >= 10:
        return strips(around(ends, ring), around(normals, ring), **solid)
    tilt = (1, math.cos(stop / segments / 2))  # a side is nearer to the axis than the corners
    sides = [np.stack([ring[k], ring[k + 1]]) for k in range(segments)]
    middles = [np.broadcast_to(unit(side.sum(0)), (2, 2)) for side in sides]
    pos = np.concatenate([around(ends, side) for side in sides])
    return strips(pos, np.concatenate([around(normals * tilt, middle) for middle in middles]), **solid)


@lru_cache
def box() -> Surface:
    """The cube [-1, 1]^3."""
    square = array([[-1, -1], [1, -1], [1, 1], [-1, -1], [1, 1], [-1, 1]])
    corner, normal = [], []
    for axis in range(3):
        for side in (-1.0, 1.0):
            face = np.insert(square, axis, side, axis=1)
            corner.append(face.reshape(2, 3, 3))
            normal.append(np.broadcast_to(side * np.eye(3)[axis], (2, 3, 3)))
    return surface(np.concatenate(corner), np.concatenate(normal), solid="box")


@lru_cache(maxsize=64)
def cylinder(top: float = 1.0, segments: int = SEGMENTS) -> Surface:
    """A closed cylinder about z: radius 1 at z = -1 and ``top`` at z = 1 (0 makes a cone)."""
    return lathe([(0, -1), (1, -1), (top, 1), (0, 1)], segments, solid="round", top=top)


@lru_cache
def ball(segments: int = SEGMENTS) -> Surface:
    """The unit sphere."""
    ring = circle(segments // 2, -math.pi / 2, math.pi / 2)
    ring[[0, -1], 0] = 0.0
    pos = lathe(ring, segments).corner
    return surface(pos, pos, solid="ball")


@lru_cache
def _rounding() -> tuple[Array, Array]:
    """(F, 3, 3) corner normals of a rounded cube, and (F, 3, 3) signs of the octants of its corners."""
    turn = np.concatenate([np.linspace(0, math.pi / 2, 4) + k * math.pi / 2 for k in range(4)] + [[2 * math.pi]])
    rise = np.concatenate([np.linspace(-math.pi / 2, 0, 4), np.linspace(0, math.pi / 2, 4)])
    quarter = np.arange(16) // 4
    sign = np.empty((8, 17, 3), dtype=np.float32)
    sign[..., 0] = np.append(np.where(np.isin(quarter, (0, 3)), 1, -1), 1)
    sign[..., 1] = np.append(np.where(quarter < 2, 1, -1), 1)
    sign[..., 2] = np.repeat((-1, 1), 4)[:, None]
    normal = np.empty_like(sign)
    normal[..., 0], normal[..., 1] = np.cos(rise)[:, None] * np.cos(turn), np.cos(rise)[:, None] * np.sin(turn)
    normal[..., 2] = np.sin(rise)[:, None]
    # lids: the flat top and bottom, as strips from the rim to the middle
    sign = np.concatenate([sign[:1] * (0, 0, 1), sign, sign[-1:] * (0, 0, 1)])
    normal = np.concatenate([normal[:1], normal, normal[-1:]])
    mesh = strips(np.stack([normal[:-1], normal[1:]], 1), np.stack([sign[:-1], sign[1:]], 1))
    signs = strips(np.stack([sign[:-1], sign[1:]], 1), np.stack([sign[:-1], sign[1:]], 1)).corner
    return mesh.corner, signs


def rounded_box(size: tuple[float, float, float], radius: float) -> Surface:
    """A box with the extents ``size`` whose edges are rounded with ``radius``."""
    radius = min(radius, 0.499 * min(size))
    normal, sign = _rounding()
    inner = array([s / 2 - radius for s in size])
    # ``half`` describes a slightly smaller box, which surely lies inside the rounded one
    half = tuple(s / 2 - 0.43 * radius for s in size)
    return surface(sign * inner + radius * normal, normal, solid="box", half=half)


def torus(radius: float, thickness: float, stop: float = 2 * math.pi) -> Surface:
    """A ring about z: the circle of ``radius`` with a round section of radius ``thickness``."""
    return lathe(circle(12, -math.pi, math.pi) * thickness + array([radius, 0]), stop=stop)


def extrude(points: ArrayLike, centre: tuple[float, float] | None = None) -> Surface:
    """A plate -1 <= z <= 1 with the counter-clockwise outline (P, 2), which must be star-shaped about ``centre``."""
    line = array(points)
    middle = np.broadcast_to(line.mean(0) if centre is None else array(centre), line.shape)
    return _plate(line, np.concatenate([line, line[:1]]), np.concatenate([middle, middle[:1]]))


def ribbon(left: ArrayLike, right: ArrayLike) -> Surface:
    """A plate -1 <= z <= 1 between two lines (P, 2) that run side by side."""
    left, right = array(left), array(right)
    return _plate(np.concatenate([right, left[::-1]]), left, right)


def _plate(rim: Array, one: Array, other: Array) -> Surface:
    ends, normals = outline(rim, closed=True)
    pos, towards = (np.zeros((len(rim), 2, 2, 3), dtype=np.float32) for _ in range(2))
    pos[..., :2], towards[..., :2] = ends[:, :, None], normals[:, :, None]
    pos[:, :, 0, 2], pos[:, :, 1, 2] = -1, 1
    lids = np.zeros((2, 2, len(one), 3), dtype=np.float32)
    lids[:, 0, :, :2], lids[:, 1, :, :2] = one, other
    lids[0, ..., 2], lids[1, ..., 2] = -1, 1
    return join(strips(pos, towards), strips(lids, lids * (0, 0, 1)))


def sweep(
    path: ArrayLike, scale: ArrayLike, section: ArrayLike | None = None, side: ArrayLike | None = None
) -> Surface:
    """A tube along a curve, closed by flat ends.

    Args:
        path: (P, 3) points of the curve.
        scale: (P,) or (P, 2) factors of the section's two axes along the curve, or one number.
        section: (Q, 2) closed counter-clockwise outline, star-shaped about the origin; by default a circle.
        side: Direction of the section's first axis, nowhere parallel to the curve; by default the normal of its plane.
    """
    path = array(path)
    scale = np.broadcast_to(array(scale).reshape(-1, 1 if np.ndim(scale) < 2 else 2), (len(path), 2))
    if side is None:
        side = np.linalg.svd(path - path.mean(0), full_matrices=True)[2][2]
    along = slope(path)
    speed = np.sqrt((along * along).sum(1, keepdims=True))
    along = along / speed
    second = unit(cross(along, array(side)))
    first = cross(second, along)
    curve, growth = slope(along) / speed, slope(scale) / speed
    ends, normals = outline(circle(12)[:-1] if section is None else section, closed=True)

    u, v = (ends[:, :, None, i] * scale[:, i] for i in (0, 1))
    nu, nv = (normals[:, :, None, i] * scale[:, 1 - i] for i in (0, 1))
    away = u[..., None] * first + v[..., None] * second
    widening = ends[:, :, None, 0] * growth[:, 0] * nu + ends[:, :, None, 1] * growth[:, 1] * nv
    stretch = np.maximum(1 - (away * curve).sum(-1), 0.05)  # below zero the tube would run through itself
    towards = (nu[..., None] * first + nv[..., None] * second) * stretch[..., None] - widening[..., None] * along
    pos = path + away
    rims = pos[:, :, [0, -1]].transpose(2, 0, 1, 3)
    lid = np.broadcast_to(path[[0, -1], None, None], rims.shape)
    outward = np.broadcast_to((along[[0, -1]] * array([[-1], [1]]))[:, None, None], rims.shape)
    fans = np.concatenate([rims, lid[:, :, :1]], axis=2).reshape(-1, 3, 3)
    return join(
        strips(pos, towards), surface(fans, np.concatenate([outward, outward[:, :, :1]], axis=2).reshape(-1, 3, 3))
    )
