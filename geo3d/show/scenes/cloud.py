"""The scene of one cloud as it is in its file, with its statistics."""

from collections.abc import Sequence

import numpy as np
from torch_geometric.data import Data

from geo3d.cloud import FIELDS
from geo3d.geometry.statistics import Statistics, statistics_of
from geo3d.show.colorings import colorings_of
from geo3d.show.scene import CAMERA_UPRIGHT, Pane, Points, Scene, camera_around, thinned

MOST = 400_000
"""Points that are drawn; more are not told apart in a picture."""


def cloud_scene(cloud: Data, title: str, names: Sequence[str] = (), most: int = MOST) -> Scene:
    """A scene of one pane: the points, coloured in every way that the cloud offers, and its statistics.

    Args:
        cloud: A record of one cloud with z up; with ``joints``, in a camera's axes.
        title: Above the pane.
        names: Of the classes of its points.
        most: Points that are drawn.
    """
    pos = cloud.pos.numpy()
    figures = statistics_of(pos)
    kept = thinned(len(pos), most)
    colorings = colorings_of(cloud, names)
    if kept is not None:
        pos = pos[kept]
        colorings = tuple(each._replace(values=each.values[kept]) for each in colorings)
    notes = [*lines_of(figures), *_shifted(cloud), *_fields(cloud)]
    if kept is not None:
        notes.append(f"The picture shows {len(kept):,} of {figures.size:,} points, drawn at random.")
    pane = Pane(title, (Points(pos, colorings, numbers=kept),))
    seen = "joints" in cloud  # hands are in the axes of the camera that saw them
    camera = camera_around(pos, -90.0, 0.0, upright=CAMERA_UPRIGHT) if seen else camera_around(pos)
    return Scene((pane,), camera, notes=tuple(notes))


def lines_of(figures: Statistics) -> list[str]:
    """The statistics of a cloud in sentences."""
    extent = " x ".join(f"{each:.4g}" for each in figures.extent)
    corner = ", ".join(f"{each:.4g}" for each in figures.low)
    lines = [f"{figures.size:,} points; extent {extent}, from ({corner}); {figures.scale}"]
    if figures.spacing:
        lines.append(
            f"median distance to the nearest point {figures.spacing:.3g}, about {figures.density:.3g} points for each "
            "unit of surface"
        )
    lines.append(f"{figures.duplicates:,} points lie exactly on an earlier one")
    guess = {"": "which axis is upright is not clear", "z": "z seems to be upright, as it should"}
    lines.append(guess.get(figures.up, f"{figures.up} seems to be upright, not z; the option up says which one is"))
    return lines


def _shifted(cloud: Data) -> list[str]:
    """A line for a cloud whose coordinates are not those of its file, which lie too far from the origin."""
    if "frame" not in cloud or not bool(cloud.frame[:3, 3].any()):
        return []
    shift = ", ".join(f"{each:.10g}" for each in cloud.frame[:3, 3].tolist())
    return [f"coordinates are shifted: the origin here is at ({shift}) in the file"]


def _fields(cloud: Data) -> list[str]:
    """A line for what the cloud has beside coordinates, with the number of values that are not finite."""
    lines = []
    for name in FIELDS:
        if name in cloud and name not in ("pos", "frame"):
            values = cloud[name].numpy()
            bad = int((~np.isfinite(values)).sum()) if values.dtype.kind == "f" else 0
            lines.append(f"{name} {tuple(values.shape)}" + (f", {bad:,} values not finite" if bad else ""))
    return [f"beside coordinates: {'; '.join(lines)}"] if lines else []
