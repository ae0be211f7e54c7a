"""The features of all points of a cloud, however large it is."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d.checkpoint.open import Checkpoint
from geo3d.cloud import Layout, collate, fields, with_
from geo3d.data.prepared import prepare
from geo3d.errors import CloudError, ConfigError
from geo3d.geometry.normalize import center_and_scale
from geo3d.jobs.inspected.source import Source
from geo3d.ops.search.three_nearest import interpolate, three_nearest
from geo3d.seeds import generator
from geo3d.show.scene import thinned
from geo3d.show.scenes.cloud import MOST


class Seen(NamedTuple):
    """What an encoder sees of a cloud."""

    batch: Batch
    """One cloud."""
    rows: Tensor
    """(n,) the numbers of its points in the source, growing."""


class Encoded(NamedTuple):
    """A cloud with the features of its points."""

    pos: Tensor
    """(N, 3) the points that are drawn, scaled to the unit sphere."""
    features: Tensor
    """(N, C)"""
    rows: Tensor
    """(N,) their numbers in the source, growing."""
    notes: tuple[str, ...]


@torch.no_grad()
def encoded(opened: Checkpoint, source: Source, points: int, must: Tensor | None = None) -> Encoded:
    """The points of a cloud and their features; those that are not encoded are interpolated from the three nearest.

    Args:
        opened: The checkpoint with the encoder.
        source: One cloud.
        points: Most points that the encoder sees.
        must: Numbers of points that it must see.

    Raises:
        ConfigError: If the encoder reads fields that the cloud does not have, or gives features for fewer points.
        CloudError: If the features are not finite.
    """
    cloud, title = source.cloud, source.title
    seen = seen_by(opened, source, points, must)
    features = of_points(opened.encoder, seen.batch, title)
    center, scale = center_and_scale(cloud.pos, "unit_sphere")
    pos, count = (cloud.pos - center) / scale, len(cloud.pos)
    if len(seen.rows) == count:
        return Encoded(pos, features, seen.rows, ())
    kept = thinned(count, MOST)
    rows = torch.arange(count) if kept is None else torch.cat([torch.from_numpy(kept), seen.rows]).unique()
    every, few = Layout(torch.tensor([0, len(rows)])), Layout(torch.tensor([0, len(seen.rows)]))
    index, weight = three_nearest(pos[rows], every, pos[seen.rows], few)
    notes = [f"{title}: {len(seen.rows):,} of {count:,} points were encoded; the rest are means of the three nearest."]
    notes += [] if kept is None else [f"{title}: {len(rows):,} of {count:,} points are drawn."]
    return Encoded(pos[rows], interpolate(features, index, weight), rows, tuple(notes))


def seen_by(opened: Checkpoint, source: Source, points: int, must: Tensor | None = None) -> Seen:
    """A cloud as the encoder is to see it: a random subset of a large one, normalised as in training."""
    cloud, count = source.cloud, len(source.cloud.pos)
    rows = torch.arange(count)
    if count > points:
        order = torch.randperm(count, generator=generator("inspect", "points", count))
        first = order[:0] if must is None else must
        rows = torch.cat([first, order[~torch.isin(order, first)]])[:points].sort().values
        cloud = with_(cloud, **{name: value[rows] for name, field, value in fields(cloud) if field.per == "point"})
    how = opened.card.get("input", {}).get("normalize", "unit_sphere")
    return Seen(collate([prepare(cloud, source.title, None, how, generator("inspect"), None)]), rows)


def of_points(encoder: nn.Module, batch: Batch, title: str) -> Tensor:
    """(N, C) features of the points that an encoder sees.

    Raises:
        ConfigError: If it gives features for fewer points.
        CloudError: If a feature is not finite.
    """
    features = encoder(batch).point
    if len(features) != len(batch.pos):
        raise ConfigError(
            f"{title}: the encoder gives features for {len(features):,} of {len(batch.pos):,} points; inspect needs "
            "one that keeps all points"
        )
    if not bool(features.isfinite().all()):
        raise CloudError(f"{title}: the features are not all finite; look at the cloud with mode=cloud")
    return features
