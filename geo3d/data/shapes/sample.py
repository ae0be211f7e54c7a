"""Points drawn on the visible surface of an assembly."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geo3d.data.shapes.mesh import Array
from geo3d.data.shapes.placing import Placed
from geo3d.data.shapes.warp import Warp


def _columns(corner: Array, face: NDArray[np.int64]) -> Array:
    """(3, 3, n) vectors at the corners of n triangles; the triangles come last because that is faster."""
    return np.ascontiguousarray(corner.reshape(-1, 9).take(face, 0).T).reshape(3, 3, -1)


def _rounded(corner: Array, normal: Array, weight: Array) -> Array:
    """(3, n) weighted means of corners, moved from the flat triangle to the curved surface that the normals describe.

    The shift is half the weighted mean of the shifts onto the tangent planes of the corners (Phong tessellation). It is
    exact to second order.
    """
    flat = (corner * weight[:, None]).sum(0)
    depth = ((corner - flat) * normal).sum(1)
    return flat + ((0.5 * weight * depth)[:, None] * normal).sum(0)


def _apply(matrix: Array, part: NDArray[np.int64], vector: Array) -> Array:
    """(3, n) vectors, each multiplied by the matrix of its part."""
    chosen = matrix.reshape(-1, 9).T.take(part, 1).reshape(3, 3, -1)
    return (chosen * vector).sum(1)


class Sampler:
    """Draws points on an assembly, evenly by area even after warps. No point lies inside another solid part.

    Args:
        assembly: The parts in place.
        scale: (3,) positive factors that scale the axes of the assembly.
    """

    def __init__(self, assembly: Placed, scale: Sequence[float] | NDArray[np.float64] = (1.0, 1.0, 1.0)) -> None:
        surfaces = assembly.surfaces
        factor = np.asarray(scale)
        linear = np.array(assembly.linear) * factor[:, None]
        inverse = np.linalg.inv(linear)
        cofactor = np.abs(np.linalg.det(linear))[:, None, None] * inverse.transpose(0, 2, 1)
        self.linear, self.cofactor = linear.astype(np.float32), cofactor.astype(np.float32)
        self.offset = (np.array(assembly.offset) * factor).astype(np.float32)
        self.label = np.array(assembly.labels)
        self.corner = np.concatenate([s.corner for s in surfaces])
        self.normal = np.concatenate([s.normal for s in surfaces])
        counts = [len(s.corner) for s in surfaces]
        self.owner = np.repeat(np.arange(len(surfaces)), counts)
        self.first = np.cumsum([0, *counts[:-1]])
        across = np.concatenate([s.across @ c.T for s, c in zip(surfaces, self.cofactor, strict=True)])
        self.area = np.cumsum(np.sqrt((across * across).sum(1)), dtype=np.float64)
        kinds = [s.solid for s in surfaces]
        self.solids = {
            kind: np.array([i for i, k in enumerate(kinds) if k == kind]) for kind in ("box", "round", "ball")
        }
        half = np.array([s.half for s in surfaces])
        self.inward = (inverse / half[:, :, None]).astype(np.float32)
        self.top = np.array([s.top for s in surfaces], dtype=np.float32)

    def draw(
        self, num_points: int, rng: np.random.Generator, warps: Sequence[Warp]
    ) -> tuple[Array, Array, NDArray[np.int64]]:
        """(N, 3) centred positions in the unit sphere, (N, 3) unit normals and (N,) part labels, in random order."""
        centre, radius = self._extent()
        kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        missing, most = num_points, 0.0
        while missing > 0:
            pos, normal, part = self._candidates(int((1.9 if warps else 1.3) * missing) + 64, rng)
            take = np.arange(len(part))
            if warps:
                # keep a candidate with a probability proportional to the growth of the area around it
                pos = (pos - centre[:, None]) / radius
                for warp in warps:
                    pos, normal = warp(pos, normal)
                growth = np.sqrt((normal * normal).sum(0))
                normal = normal / growth
                most = most or float(growth.max(initial=1e-6))
                take = np.flatnonzero(rng.random(len(growth), dtype=np.float32) * most < growth)
            take = take[rng.permutation(len(take))[:missing]]
            kept.append((pos[:, take], normal[:, take], self.label[part[take]]))
            missing -= len(take)
        pos, normal, label = (np.concatenate(column, axis=-1) for column in zip(*kept, strict=True))
        pos = pos - pos.mean(1, keepdims=True)
        pos = pos / max(np.sqrt((pos * pos).sum(0).max()), 1e-12)
        return np.ascontiguousarray(pos.T), np.ascontiguousarray(normal.T), label

    def _extent(self) -> tuple[Array, float]:
        """Centre and radius of a box around everything."""
        corner = self.corner.reshape(-1, 3)
        low, high = np.minimum.reduceat(corner, 3 * self.first), np.maximum.reduceat(corner, 3 * self.first)
        middle = np.einsum("pij,pj->pi", self.linear, (low + high) / 2) + self.offset
        half = np.einsum("pij,pj->pi", np.abs(self.linear), (high - low) / 2)
        low, high = (middle - half).min(0), (middle + half).max(0)
        return (low + high) / 2, float(np.sqrt(((high - low) ** 2).sum())) / 2

    def _candidates(self, number: int, rng: np.random.Generator) -> tuple[Array, Array, NDArray[np.int64]]:
        """(3, n) visible points, (3, n) unit normals and (n,) parts.

        They come from one draw in each of ``number`` equal areas, in the order of these.
        """
        u = rng.random((3, number), dtype=np.float32)
        share = (np.arange(number) + u[0]) * (self.area[-1] / number)
        face = np.minimum(np.searchsorted(self.area, share), len(self.area) - 1)
        root = np.sqrt(u[1])
        weight = np.stack([1 - root, root * (1 - u[2]), root * u[2]])
        part = self.owner[face]
        corner, normal = _columns(self.corner, face), _columns(self.normal, face)
        pos = _apply(self.linear, part, _rounded(corner, normal, weight)) + self.offset.take(part, 0).T
        normal = (normal * weight[:, None]).sum(0)
        seen = np.flatnonzero(~self._hidden(pos, part))
        part = part[seen]
        normal = _apply(self.cofactor, part, normal[:, seen])
        return pos[:, seen], normal / np.sqrt((normal * normal).sum(0)), part

    def _hidden(self, pos: Array, part: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) whether each of the points (3, n) lies inside a solid part other than its own."""
        hidden = np.zeros(len(part), dtype=bool)
        for kind, members in self.solids.items():
            if not len(members):
                continue
            inward = self.inward[members]
            shift = np.einsum("sij,sj->is", inward, self.offset[members])
            local = (inward.transpose(1, 0, 2).reshape(-1, 3) @ pos).reshape(3, len(members), -1)
            local -= shift[:, :, None]
            if kind == "box":
                inside = np.abs(local, out=local).max(0) < 0.999
            else:
                square = local * local
                if kind == "ball":
                    inside = square.sum(0) < 0.998
                else:
                    wide = 1 + (self.top[members, None] - 1) * (local[2] + 1) / 2
                    inside = (square[2] < 0.998) & (square[0] + square[1] < 0.998 * wide * wide)
            row = np.minimum(np.searchsorted(members, part), len(members) - 1)
            own = np.flatnonzero(members[row] == part)
            inside[row[own], own] = False
            hidden |= inside.any(0)
        return hidden
