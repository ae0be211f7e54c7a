"""Where the clouds of a picture come from."""

from pathlib import Path
from typing import Any, NamedTuple

from torch_geometric.data import Data

from geo3d.data.targets import Classes, targets_of
from geo3d.errors import ConfigError
from geo3d.io.axes import z_up
from geo3d.io.read import as_data, read_arrays
from geo3d.seeds import generator

ON_FACES = 50_000
"""Points that are drawn on the faces of a mesh."""


class Source(NamedTuple):
    """One cloud, and what is said of it."""

    cloud: Data
    """In the coordinates of its file or data set, with z up if a file; hands in the axes of their camera."""
    title: str
    notes: tuple[str, ...] = ()
    """How it was read."""
    classes: tuple[str, ...] = ()
    """Names of the classes of its points, if they are known."""


def of_file(path: Path, up: str) -> Source:
    """The cloud in a file; a mesh gives points on its faces.

    Args:
        path: A file of any kind that geo3d reads.
        up: The axis that points up in it, ``y`` or ``z``.

    Raises:
        CloudError: If the file cannot be read.
    """
    arrays = read_arrays(path)
    faces = len(arrays.get("faces", ()))
    if not faces:
        return Source(z_up(as_data(arrays, str(path)), up), path.name)
    points = as_data(arrays, str(path), ON_FACES, generator("inspect", path.name))
    note = f"{len(arrays['pos']):,} vertices and {faces:,} faces; {ON_FACES:,} points were drawn on the faces."
    return Source(z_up(points, up), path.name, (note,))


def of_data(data: Any, split: str, index: int) -> Source:
    """A cloud of a data set.

    Args:
        data: A data module.
        split: ``train`` or ``test``.
        index: Number of the cloud.

    Raises:
        ConfigError: If there is no such cloud.
    """
    dataset = data.dataset(split)
    if index >= len(dataset):
        raise ConfigError(f"index={index}: the {split} split has {len(dataset):,} clouds; give a number below that")
    cloud, classes, of_points = dataset[index], list(dataset.classes), targets_of(dataset).get("point_y")
    name = f"{classes[int(cloud.y)].replace('_', ' ')}, " if "y" in cloud and classes else ""
    names = tuple(of_points.names) if isinstance(of_points, Classes) else ()
    return Source(cloud, f"{name}cloud {index} of the {split} split", classes=names)
