"""What an objective compares and is given beside the embeddings: rows of points, places, clouds, motions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d.cloud import Features, num_clouds, select_points, with_
from geo3d.errors import ConfigError
from geo3d.invariance.views import View, matched_rows
from geo3d.objectives.objective import Hidden, Motions, Places


def compared_rows(features: Features, decoder: nn.Module | None, index: Tensor | None, points: int) -> Tensor:
    """The input of the projector: the features of the clouds, or the decoder's rows ``index`` of the ``points`` points.

    Raises:
        ConfigError: If the encoder has left points out, so that ``index`` would pick rows of other points.
    """
    if decoder is None or index is None:
        return features.cloud
    if len(features.point) != points:
        raise ConfigError("the encoder leaves points out; an objective on points needs one that keeps them all")
    return decoder(features)[index]


def matching_rows(
    views: Sequence[View],
    features: Sequence[Features],
    origin: Tensor,
    pairs: int,
    radius: float,
    level: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """For each of two views the flat indices (pairs,) of the points that an objective compares.

    Args:
        views: Of one batch.
        features: The encoder's, for each view.
        origin: (M, 3) coordinates of the batch.
        pairs: How many.
        radius: How far matching points may be apart in ``origin``, see :func:`geo3d.invariance.views.matched_rows`.
        level: 0 for all points; above, only the points that are centres at this level of the encoder.
        generator: For the draw.

    Raises:
        ConfigError: If the encoder has no such level.
        CloudError: If no points match.
    """
    if level == 0:
        return matched_rows(views[0].batch, views[1].batch, pairs, generator, origin, radius)
    rows = [centers_of(each, level) for each in features]
    few = [
        select_points(view.batch, row, ptr=each.levels[level].layout.ptr)
        for view, row, each in zip(views, rows, features, strict=True)
    ]
    a, b = matched_rows(few[0], few[1], pairs, generator, origin, radius)
    return rows[0][a], rows[1][b]


def centers_of(features: Features, level: int) -> Tensor:
    """(Mc,) which points of the input are the centres of a level.

    Raises:
        ConfigError: If the encoder has no such level, or its levels have no ``rows``.
    """
    if level >= len(features.levels):
        raise ConfigError(
            f"objective.level={level}, but the encoder has levels 0 to {len(features.levels) - 1}; take one of these"
        )
    rows = None
    for finer in reversed(features.levels[1 : level + 1]):
        if finer.rows is None:
            raise ConfigError("the encoder's levels do not say at which points they lie (Level.rows); give them")
        rows = finer.rows if rows is None else finer.rows[rows]
    assert rows is not None
    return rows


def places_of(view: View, batch: Batch, index: Tensor) -> Places:
    """Where the points ``index`` of a view are in the batch that it was made from."""
    return Places(batch.pos[view.batch.point_id[index]], view.batch.batch[index])


def hidden_of(whole: Sequence[View], masked: Sequence[View], rows: Sequence[Tensor]) -> Hidden:
    """Which of the compared points the views hide, and the colours that they had before.

    Args:
        whole: The views before anything was hidden.
        masked: The same, with cross masks.
        rows: For each view the points that are compared.
    """
    flags = [view.batch.masked[index, 0] for view, index in zip(masked, rows, strict=True)]
    if whole[0].batch.get("rgb") is None:
        return Hidden(flags, None)
    return Hidden(flags, [view.batch.rgb[index] for view, index in zip(whole, rows, strict=True)])


def drawn_points(batch: Batch, count: int, generator: torch.Generator) -> Tensor:
    """(B, count, 3) points of each cloud, drawn at random with repetition."""
    sizes = batch.ptr.diff()
    place = torch.rand(len(sizes), count, generator=generator, dtype=torch.float64).to(batch.pos.device)
    index = batch.ptr[:-1, None] + (place * sizes[:, None]).long().minimum(sizes[:, None] - 1)
    return batch.pos[index]


def followed(batch: Batch) -> Batch:
    """The clouds with ``joints`` (B, 4, 3) at the origin and the ends of the three axes, which tell of any motion."""
    corners = torch.cat([batch.pos.new_zeros(1, 3), torch.eye(3).to(batch.pos)])
    return with_(batch, joints=corners.expand(num_clouds(batch), 4, 3))


def motions_of(views: Sequence[View], batch: Batch) -> Motions:
    """How views of :func:`followed` clouds have moved them.

    Args:
        views: Of the followed clouds.
        batch: The clouds before, with their own joints if they have any.
    """
    motions = []
    for view in views:
        origin, ends = view.batch.joints.split([1, 3], 1)
        motion = torch.eye(4).to(origin).repeat(len(origin), 1, 1)
        motion[:, :3, :3], motion[:, :3, 3] = (ends - origin).mT, origin[:, 0]
        motions.append(motion)
    return Motions(motions, batch.get("joints"))
