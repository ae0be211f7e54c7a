"""A simulated depth camera: its picture of triangles, and the faults of real ones."""

import math
from copy import copy
from typing import Annotated, NamedTuple

import torch
from torch import Tensor

from geo3d.checks import Range, checked
from geo3d.geometry.depth_image import bend, grown, neighbor_range, pixel_points, shifted
from geo3d.ops.render.depth import depth_image

FOCAL = 585.0
"""Focal length, in pixels, of the camera that the published formulas describe: a Kinect at 640 x 480."""
BASELINE = 0.075
"""Its distance between projector and camera, in metres."""
STEP = 0.125
"""Its disparities are multiples of this many pixels."""

Strength = Annotated[float, Range(0, 10)]


class Picture(NamedTuple):
    """What a camera sees."""

    depth: Tensor
    """(H, W) metres along the camera's axis, 0 where nothing was measured."""
    face: Tensor
    """(H, W) number of the triangle that each depth comes from, -1 where there is none."""


class DepthCamera:
    """A pinhole camera that measures depth as a Kinect does, with each kind of fault on its own switch.

    The strength of every fault is 1 for that of the published measurements and 0 for none. They act in this order:

    - ``lateral``: a pixel measures a place beside it, off by ``.8 + .035 t / (pi/2 - t)`` pixels at 640 x 480 for a
      surface tilted by t (Nguyen, Izadi and Lovell, 3DIMPVT 2012).
    - ``flying``: at silhouettes, some pixels mix the depths in front and behind.
    - ``axial``: noise along the ray, with the standard deviation
      ``.0012 + .0019 (z - .4)^2 + .0001 / sqrt(z) (t / (pi/2 - t))^2`` metres (the same paper).
    - ``steps``: depths lie on steps of equal disparity, ``z = f b / d`` with d in eighths of a pixel.
    - ``holes``: some pixels at silhouettes, on surfaces tilted by more than 60 degrees (with a probability that rises
      to ``1 - cos t`` at 75), on what the caller calls clear, and in small spots measure nothing.

    Args:
        height: Rows of the picture.
        width: Columns.
        angle: Horizontal angle of view in degrees.
        near: Depths below this many metres are not measured.
        far: Depths above this many metres are not measured.
        lateral: Strength of the sideways noise.
        flying: Strength of the mixing at silhouettes.
        axial: Strength of the noise along the ray.
        steps: Strength of the steps; a multiple of their size.
        holes: Strength of what is missing.
    """

    @checked
    def __init__(
        self,
        height: Annotated[int, Range(1, 4096)] = 120,
        width: Annotated[int, Range(1, 4096)] = 160,
        angle: Annotated[float, Range(1, 170)] = 58.0,
        near: Annotated[float, Range(0, 100)] = 0.4,
        far: Annotated[float, Range(0, 1000, above=True)] = 5.0,
        lateral: Strength = 1.0,
        flying: Strength = 1.0,
        axial: Strength = 1.0,
        steps: Strength = 1.0,
        holes: Strength = 1.0,
    ) -> None:
        self.height, self.width, self.angle, self.near, self.far = height, width, angle, near, far
        self.lateral, self.flying, self.axial, self.steps, self.holes = lateral, flying, axial, steps, holes

    def with_picture(self, height: int, width: int, angle: float) -> "DepthCamera":
        """The same camera with another picture and horizontal angle of view in degrees."""
        other = copy(self)
        other.height, other.width, other.angle = height, width, angle
        return other

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return self.width / 2 / math.tan(math.radians(self.angle) / 2)

    @property
    def center(self) -> tuple[float, float]:
        """The pixel (u, v) on the camera's axis."""
        return (self.width - 1) / 2, (self.height - 1) / 2

    def exact(self, corner: Tensor) -> Picture:
        """The picture of the triangles (F, 3, 3) in the camera's axes without any fault, at any depth."""
        return Picture(*depth_image(corner, self.height, self.width, (self.focal, self.focal), self.center))

    def points(self, depth: Tensor) -> Tensor:
        """(H, W, 3) the point of each pixel in the camera's axes."""
        return pixel_points(depth, (self.focal, self.focal), self.center)

    def measured(self, corner: Tensor, generator: torch.Generator, clear: Tensor | None = None) -> Picture:
        """The picture of the triangles (F, 3, 3) in the camera's axes with all faults.

        Args:
            corner: The triangles.
            generator: Draws the faults.
            clear: (F,) bool, the triangles of glass and mirrors, which are mostly not measured.
        """
        exact = self.exact(corner)
        tilt = self._tilt(corner, exact)
        low, high = neighbor_range(exact.depth)
        place = self._beside(tilt, generator)
        depth, face, tilt, low, high, edge = (
            image.view(-1)[place] for image in (*exact, tilt, low, high, silhouettes(exact.depth))
        )
        depth = self._flying(depth, low, high, edge, generator)
        depth = self._noisy(depth, tilt, generator)
        missing = (depth < self.near) | (depth > self.far) | (face < 0)
        missing |= self._missing(depth, face, tilt, edge, clear, generator)
        return Picture(depth.masked_fill(missing, 0.0), face.masked_fill(missing, -1))

    def _tilt(self, corner: Tensor, picture: Picture) -> Tensor:
        """(H, W) angle between the surface's normal and the ray; 0 where there is no surface."""
        rows = (picture.face.view(-1) >= 0).nonzero()[:, 0]
        normal = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        nx, ny, nz = normal[picture.face.view(-1)[rows]].unbind(1)
        x = ((rows % self.width).to(corner.dtype) - self.center[0]) / self.focal
        y = ((rows // self.width).to(corner.dtype) - self.center[1]) / self.focal
        lengths = ((nx * nx + ny * ny + nz * nz) * (x * x + y * y + 1)).sqrt()
        cosine = (nx * x + ny * y + nz).abs() / lengths.clamp(min=1e-30)
        tilt = torch.zeros_like(picture.depth)
        tilt.view(-1)[rows] = cosine.clamp(max=1).acos()
        return tilt

    def _beside(self, tilt: Tensor, generator: torch.Generator) -> Tensor:
        """(H, W) flat index of the pixel whose place each pixel measures."""
        ratio = (tilt.clamp(max=1.4)) / (math.pi / 2 - tilt.clamp(max=1.4))
        std = self.lateral * (0.8 + 0.035 * ratio) * self.focal / FOCAL
        return shifted(torch.randn(2, *tilt.shape, generator=generator, dtype=tilt.dtype) * std)

    def _flying(self, depth: Tensor, low: Tensor, high: Tensor, edge: Tensor, generator: torch.Generator) -> Tensor:
        chance, mix = torch.rand(2, *depth.shape, generator=generator, dtype=depth.dtype)
        mixed = low + mix * (high - low)
        return torch.where(edge & (chance < 0.15 * self.flying), mixed, depth)

    def _noisy(self, depth: Tensor, tilt: Tensor, generator: torch.Generator) -> Tensor:
        """The depths with noise along the ray, then on their steps."""
        ratio = (tilt.clamp(max=1.4)) / (math.pi / 2 - tilt.clamp(max=1.4))
        z = depth.clamp(min=0.1)
        std = 0.0012 + 0.0019 * (z - 0.4).square() + 0.0001 / z.sqrt() * ratio.square()
        depth = depth + self.axial * std * torch.randn(depth.shape, generator=generator, dtype=depth.dtype)
        if self.steps == 0:
            return depth
        step = STEP * self.steps
        disparity = (FOCAL * BASELINE / depth.clamp(min=0.05) / step).round().clamp(min=1) * step
        return torch.where(depth > 0.05, FOCAL * BASELINE / disparity, depth)

    def _missing(
        self,
        depth: Tensor,
        face: Tensor,
        tilt: Tensor,
        edge: Tensor,
        clear: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """(H, W) bool, the pixels that measure nothing."""
        chance = torch.rand(depth.shape, generator=generator, dtype=depth.dtype) / max(self.holes, 1e-9)
        missing = edge & (chance < 0.3)
        steep = ((tilt - math.pi / 3) / (math.pi / 12)).clamp(0, 1)
        missing |= chance < steep * (1 - tilt.cos())
        if clear is not None and len(clear):
            missing |= clear[face.clamp(min=0)] & (chance < 0.9)
        spots = torch.rand(depth.shape, generator=generator, dtype=depth.dtype) < 0.0004 * self.holes
        reach = max(1, round(4 * self.focal / FOCAL))
        return missing | grown(spots, reach)


def silhouettes(depth: Tensor) -> Tensor:
    """(H, W) bool, the pixels next to a jump of more than 3 cm and 3 % of their depth, which no slope explains."""
    inverse = torch.where(depth > 0, 1 / depth.clamp(min=1e-6), 0.0)
    return (depth > 0) & (depth.square() * bend(inverse) > 0.03 + 0.03 * depth)
