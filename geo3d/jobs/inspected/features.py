"""``mode=features``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from geo3d.checkpoint.open import Checkpoint
from geo3d.errors import ConfigError
from geo3d.jobs.inspected.encoded import encoded
from geo3d.jobs.inspected.source import Source
from geo3d.show.pca import fitted, read_basis, write_basis
from geo3d.show.scene import Scene
from geo3d.show.scenes.features import Featured, feature_scene


def features(
    opened: Checkpoint,
    sources: Sequence[Source],
    points: int,
    point: int | None,
    basis: Path | None,
) -> Scene:
    """The scene of the features of clouds, which share their colours.

    Args:
        opened: The checkpoint with the encoder.
        sources: The clouds.
        points: Most points of a cloud that the encoder sees.
        point: Number of the chosen point in the first cloud.
        basis: A file with directions in the space of features; if it does not exist, it is written.

    Raises:
        ConfigError: If the first cloud has no point of that number, or the basis is of other features.
    """
    must = None if point is None else chosen(sources[0], point)
    parts = [encoded(opened, each, points, must if i == 0 else None) for i, each in enumerate(sources)]
    featured = [
        Featured(source.title, each.pos.numpy(), each.features.numpy(), each.rows.numpy())
        for source, each in zip(sources, parts, strict=True)
    ]
    if basis is not None and basis.exists():
        colors = read_basis(basis)
    else:
        colors = fitted(np.concatenate([each.features for each in featured]))
        if basis is not None:
            write_basis(colors, basis)
    row = None if point is None else int((parts[0].rows == point).nonzero()[0, 0])
    scene = feature_scene(featured, colors, row)
    return scene._replace(notes=(*scene.notes, *(note for each in parts for note in each.notes)))


def chosen(source: Source, point: int) -> torch.Tensor:
    """(1,) the number of the chosen point.

    Raises:
        ConfigError: If the cloud has no such point.
    """
    count = len(source.cloud.pos)
    if point >= count:
        raise ConfigError(f"point={point}: {source.title} has {count:,} points; give a number below that")
    return torch.tensor([point])
