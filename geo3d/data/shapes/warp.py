"""Smooth maps of space applied to points, their normals and the area around them."""

from collections.abc import Callable

import numpy as np

from geo3d.data.shapes.mesh import Array

Warp = Callable[[Array, Array], tuple[Array, Array]]
"""(pos (3, N), normal (3, N)) -> the same after the map. Normals are multiplied by the cofactor matrix of the map's
derivative, so their lengths grow by the factor by which the area around the point grows."""


def taper(rate: float) -> Warp:
    """Scales x and y by ``1 + rate * z``, which must stay positive."""

    def act(pos: Array, normal: Array) -> tuple[Array, Array]:
        (x, y, z), (nx, ny, nz) = pos, normal
        s = 1 + rate * z
        return np.stack([s * x, s * y, z]), np.stack([s * nx, s * ny, s * s * nz - rate * s * (x * nx + y * ny)])

    return act


def twist(rate: float) -> Warp:
    """Rotates about z by the angle ``rate * z``."""

    def act(pos: Array, normal: Array) -> tuple[Array, Array]:
        (x, y, z), (nx, ny, nz) = pos, normal
        c, s = np.cos(rate * z), np.sin(rate * z)
        turned = np.stack([c * nx - s * ny, s * nx + c * ny, nz - rate * (x * ny - y * nx)])
        return np.stack([c * x - s * y, s * x + c * y, z]), turned

    return act


def bend(curvature: float) -> Warp:
    """Bends the x axis into an arc in the plane of x and z; ``curvature * z`` must stay below 1."""
    if abs(curvature) < 1e-3:
        return lambda pos, normal: (pos, normal)

    def act(pos: Array, normal: Array) -> tuple[Array, Array]:
        (x, y, z), (nx, ny, nz) = pos, normal
        c, s, f = np.cos(curvature * x), np.sin(curvature * x), 1 - curvature * z
        arc = np.stack([f * s / curvature, y, (1 - f * c) / curvature])
        return arc, np.stack([c * nx - s * f * nz, f * ny, s * nx + c * f * nz])

    return act


def on_axes(warp: Warp, order: tuple[int, int, int]) -> Warp:
    """The same map on other axes: ``order`` names the axes that take the places of x, y and z."""
    order_, back = list(order), [order.index(axis) for axis in range(3)]

    def act(pos: Array, normal: Array) -> tuple[Array, Array]:
        p, n = warp(pos[order_], normal[order_])
        return p[back], n[back]

    return act


def random_warps(rng: np.random.Generator) -> list[Warp]:
    """Mild maps for a shape of unit radius: sometimes a taper, a twist, a bend; often none."""
    warps = []
    chance, amount = rng.random(4), rng.uniform(-1, 1, 3).tolist()
    if chance[0] < 0.3:
        warps.append(taper(0.3 * amount[0]))
    if chance[1] < 0.15:
        warps.append(twist(0.5 * amount[1]))
    if chance[2] < 0.25:
        order = ((0, 1, 2), (1, 0, 2), (2, 0, 1), (2, 1, 0))[int(4 * chance[3])]
        warps.append(on_axes(bend(0.4 * amount[2]), order))
    return warps
