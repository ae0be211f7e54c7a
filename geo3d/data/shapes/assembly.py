"""Objects put together from parts."""

import math

import numpy as np
from numpy.typing import NDArray

from geo3d.data.shapes import mesh
from geo3d.data.shapes.mesh import Array, Surface
from geo3d.data.shapes.placing import PARTS, UPRIGHT, Matrix, Placed, Vector, product, turn
from geo3d.data.shapes.sample import Sampler
from geo3d.data.shapes.warp import random_warps


class Assembly(Placed):
    """An object made of parts. Lengths are full extents, except for radii; z is up."""

    def add(
        self, part: str, surface: Surface, at: Vector = (0, 0, 0), size: Vector = (1, 1, 1), turned: Matrix = UPRIGHT
    ) -> None:
        """Add a surface: scaled by ``size``, then turned, then moved to ``at``."""
        self.surfaces.append(surface)
        self.linear.append(tuple((r[0] * size[0], r[1] * size[1], r[2] * size[2]) for r in turned))  # type: ignore[arg-type]
        self.offset.append(at)
        self.labels.append(PARTS.index(part))

    def box(self, part: str, at: Vector, size: Vector, turned: Matrix = UPRIGHT, radius: float = 0.0) -> None:
        """Add a box with the extents ``size`` about ``at``, its edges rounded with ``radius``."""
        if radius > 0:
            self.add(part, mesh.rounded_box(size, radius), at, turned=turned)
        else:
            self.add(part, mesh.box(), at, (size[0] / 2, size[1] / 2, size[2] / 2), turned)

    def ball(self, part: str, at: Vector, radii: Vector, turned: Matrix = UPRIGHT) -> None:
        """Add an ellipsoid."""
        self.add(part, mesh.ball(), at, radii, turned)

    def rod(
        self,
        part: str,
        start: Vector,
        stop: Vector,
        radius: float,
        top: float = 1.0,
        square: bool = False,
        flat: float = 1.0,
    ) -> None:
        """Add a round or square bar between two points.

        ``top`` scales the radius of a round bar at ``stop``; ``flat`` scales the bar along its second axis.
        """
        way = [b - a for a, b in zip(start, stop, strict=True)]
        length = math.sqrt(sum(w * w for w in way))
        z = [w / length for w in way]
        x = [z[2], 0.0, -z[0]] if abs(z[2]) > 0.5 else [-z[1], z[0], 0.0]
        norm = math.sqrt(sum(w * w for w in x))
        x = [w / norm for w in x]
        y = [z[1] * x[2] - z[2] * x[1], z[2] * x[0] - z[0] * x[2], z[0] * x[1] - z[1] * x[0]]
        frame = tuple(zip(x, y, z, strict=True))
        middle = tuple((a + b) / 2 for a, b in zip(start, stop, strict=True))
        bar = mesh.box() if square else mesh.cylinder(round(20 * top) / 20, 16)
        self.add(part, bar, middle, (radius, radius * flat, length / 2), frame)  # type: ignore[arg-type]

    def disc(
        self, part: str, at: Vector, radius: float, height: float, top: float = 1.0, turned: Matrix = UPRIGHT
    ) -> None:
        """Add a cylinder or cone about z, centred at ``at``."""
        self.add(part, mesh.cylinder(round(20 * top) / 20), at, (radius, radius, height / 2), turned)

    def place(self, other: "Assembly", at: Vector = (0, 0, 0), turned: Matrix = UPRIGHT) -> None:
        """Add all parts of another assembly, turned, then moved to ``at``."""
        for surface, linear, offset, label in zip(
            other.surfaces, other.linear, other.offset, other.labels, strict=True
        ):
            moved = [
                sum(r * o for r, o in zip(row, offset, strict=True)) + a for row, a in zip(turned, at, strict=True)
            ]
            self.surfaces.append(surface)
            self.linear.append(product(turned, linear))
            self.offset.append(tuple(moved))  # type: ignore[arg-type]
            self.labels.append(label)

    def sample(self, num_points: int, rng: np.random.Generator) -> tuple[Array, Array, NDArray[np.int64]]:
        """(N, 3) positions, (N, 3) unit normals and (N,) part labels, evenly by area on the outside of the union."""
        return Sampler(self).draw(num_points, rng, [])

    def vary(self, num_points: int, rng: np.random.Generator) -> tuple[Array, Array, NDArray[np.int64]]:
        """Like :meth:`sample`, after small faults, a scaling of the axes and warps. The faults change the parts."""
        self._fault(rng)
        scale = np.exp(rng.uniform(-0.22, 0.22, 3))
        return Sampler(self, scale).draw(num_points, rng, random_warps(rng))

    def _fault(self, rng: np.random.Generator) -> None:
        """Sometimes remove one part; sometimes turn one or two parts a little."""
        number = len(self.surfaces)
        chance = rng.random(2)
        if number >= 5 and chance[0] < 0.15:
            lost = int(rng.integers(1, number))
            for column in (self.surfaces, self.linear, self.offset, self.labels):
                del column[lost]
            number -= 1
        if chance[1] < 0.3:
            for i in rng.integers(0, number, 2).tolist():
                crooked = turn(*rng.normal(0, 2.5, 3).tolist())
                self.linear[i] = product(crooked, self.linear[i])
