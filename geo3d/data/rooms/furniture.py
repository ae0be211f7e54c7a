"""Furniture and small things at their true size."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from geo3d.data.rooms.colors import part_colors
from geo3d.data.rooms.thing import Thing
from geo3d.data.shapes import seats, storage, things, tools, vessels
from geo3d.data.shapes.assembly import Assembly
from geo3d.data.shapes.mesh import array
from geo3d.data.shapes.placing import Draws


class Kind(NamedTuple):
    """How a generated shape becomes a thing in a room."""

    make: Callable[[Draws], Assembly]
    label: str
    height: tuple[float, float]
    """Its height in metres lies in this range."""
    length: tuple[float, float]
    """Its longer side in plan lies in this range."""


KINDS = {
    "chair": Kind(seats.chair, "chair", (0.78, 1.0), (0.42, 0.75)),
    "stool": Kind(seats.stool, "chair", (0.42, 0.7), (0.28, 0.5)),
    "bench": Kind(seats.bench, "chair", (0.42, 0.85), (0.8, 1.6)),
    "sofa": Kind(seats.sofa, "sofa", (0.68, 0.9), (1.3, 2.3)),
    "bed": Kind(seats.bed, "bed", (0.5, 1.1), (1.8, 2.3)),
    "table": Kind(storage.table, "table", (0.7, 0.78), (0.8, 2)),
    "low table": Kind(storage.table, "table", (0.35, 0.5), (0.6, 1.3)),
    "desk": Kind(storage.desk, "table", (0.72, 0.95), (1, 1.8)),
    "shelf": Kind(storage.shelf, "shelf", (1.1, 2.1), (0.5, 1.4)),
    "cabinet": Kind(storage.cabinet, "cabinet", (0.7, 2.0), (0.4, 1.6)),
    "piano": Kind(storage.piano, "piano", (0.95, 1.3), (1.2, 1.6)),
    "floor lamp": Kind(things.lamp, "lamp", (1.3, 1.8), (0.2, 0.6)),
    "lamp": Kind(things.lamp, "lamp", (0.3, 0.55), (0.12, 0.4)),
    "plant": Kind(things.plant, "plant", (0.5, 1.5), (0.2, 0.9)),
    "small plant": Kind(things.plant, "plant", (0.15, 0.4), (0.1, 0.35)),
    "monitor": Kind(things.monitor, "monitor", (0.38, 0.55), (0.4, 0.75)),
    "laptop": Kind(things.laptop, "clutter", (0.18, 0.26), (0.28, 0.4)),
    "bottle": Kind(vessels.bottle, "clutter", (0.18, 0.33), (0.06, 0.2)),
    "cup": Kind(vessels.cup, "clutter", (0.07, 0.13), (0.07, 0.16)),
    "bowl": Kind(vessels.bowl, "clutter", (0.05, 0.12), (0.1, 0.35)),
    "vase": Kind(vessels.vase, "clutter", (0.15, 0.35), (0.08, 0.3)),
    "teapot": Kind(vessels.teapot, "clutter", (0.11, 0.2), (0.15, 0.3)),
    "ladder": Kind(things.ladder, "clutter", (1.2, 2.0), (0.3, 0.9)),
    "guitar": Kind(tools.guitar, "clutter", (0.6, 1.0), (0.25, 1.1)),
    "bathtub": Kind(vessels.bathtub, "bathtub", (0.48, 0.62), (1.4, 1.8)),
    "toilet": Kind(vessels.toilet, "toilet", (0.7, 0.85), (0.5, 0.8)),
}
"""Everything that is not part of the room itself."""


def furnish(name: str, d: Draws) -> Thing:
    """A new thing of a kind: it stands on z = 0 with its middle on the vertical axis, and its back towards +y."""
    kind = KINDS[name]
    assembly = kind.make(d)
    corner = np.concatenate(
        [
            surface.corner @ array(linear).T + array(offset)
            for surface, linear, offset in zip(assembly.surfaces, assembly.linear, assembly.offset, strict=True)
        ]
    )
    parts = np.repeat(assembly.labels, [len(surface.corner) for surface in assembly.surfaces])
    low, high = corner.min((0, 1)), corner.max((0, 1))
    extent = high - low
    up = d.real(*kind.height) / extent[2]
    longer = float(max(extent[0], extent[1]))
    wide = min(max(longer * up, kind.length[0]), kind.length[1]) / longer  # as it is, where that is in the range
    middle = (low + high) / 2
    corner = (corner - array([middle[0], middle[1], low[2]])) * array([wide, wide, up])
    return Thing(kind.label, corner, part_colors(kind.label, parts, d))
