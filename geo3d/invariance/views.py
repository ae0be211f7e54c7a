"""Views of a batch: the same clouds mapped by different elements of an invariance."""

from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d import seeds
from geo3d.checks import Points, Range, checked
from geo3d.cloud import first_points, layout_of, num_clouds, select_points, without_frame
from geo3d.errors import CloudError
from geo3d.geometry.normalize import Normalize, normalized
from geo3d.invariance import Invariance, Resample
from geo3d.invariance.selection import keep_where
from geo3d.ops.search.knn import knn_query


class View(NamedTuple):
    """One view, and the element and points it was made from."""

    batch: Batch
    """The clouds of the view; ``point_id`` gives the point of the original batch for each of its points."""
    element: Any
    """The element of the invariance that acted on ``source``."""
    source: Batch
    """The points drawn for this view, before the invariance."""


class Views:
    """Several views of a batch, each drawn with its own generator.

    Clouds with the field ``view_id`` bring their views along, such as two frames of a camera: view i consists of the
    points with ``view_id`` i.

    Args:
        invariance: The invariance whose elements make the views.
        num_points: Each view first draws this many points of each cloud (all if there are fewer). None keeps them all.
        num_views: Number of views.
        normalize: How each cloud is then normalised, as in evaluation, see :data:`geo3d.geometry.normalize.Normalize`.
            The invariance acts last, so that normalisation does not undo its shifts and scales.

    Raises:
        ConfigError: If an argument is of the wrong type or out of its range.
    """

    @checked
    def __init__(
        self,
        invariance: Invariance,
        num_points: Points | None = None,
        num_views: Annotated[int, Range(1, 64)] = 2,
        normalize: Normalize = "none",
    ) -> None:
        self.invariance, self.num_points = invariance, num_points
        self.num_views, self.normalize = num_views, normalize

    def __call__(self, batch: Batch, *key: seeds.Key) -> list[View]:
        """``num_views`` views of the batch, drawn by the seed ``key`` alone, such as (seed, "views", epoch, step)."""
        with torch.autocast(batch.pos.device.type, enabled=False):  # coordinates keep their full precision
            return [self._view(only_view(batch, i), seeds.generator(*key, "view", i)) for i in range(self.num_views)]

    def _view(self, batch: Batch, generator: torch.Generator) -> View:
        batch = without_frame(batch)
        if self.num_points is not None:
            batch = Resample(self.num_points)(batch, generator)
        source = normalized(batch, self.normalize)
        element, batch = self.invariance.draw(source, generator)
        return View(batch, element, source)

    def of_fewer_points(self, view: View, num_points: int) -> Batch:
        """The first ``num_points`` points of a view's clouds, normalised separately and mapped by the view's element.

        The invariance must have one element per cloud, not per point, such as rotations and scales.
        """
        with torch.autocast(view.batch.pos.device.type, enabled=False):
            source = first_points(view.source, num_points)
            return self.invariance.act(view.element, normalized(source, self.normalize))


def only_view(batch: Batch, number: int) -> Batch:
    """The points of each cloud with this ``view_id``; the batch itself if its clouds have no such field.

    Raises:
        CloudError: If a cloud has no point with this number.
    """
    view_id = batch.get("view_id")
    if view_id is None:
        return batch
    mask = view_id == number
    kept = keep_where(mask, batch)
    assert kept.ptr is not None
    if bool((kept.ptr.diff() == 0).any()):
        cloud = int((kept.ptr.diff() == 0).nonzero()[0])
        raise CloudError(
            f"cloud {cloud} of the batch has no point with view_id={number}; give each cloud points of every view"
        )
    return select_points(batch, kept.points, ptr=kept.ptr)


def correspondences(a: Batch, b: Batch) -> tuple[Tensor, Tensor]:
    """Flat indices (P,) into ``a`` and into ``b`` of the points that both contain, in the order of ``a``.

    Both must be views of the same batch: points correspond if they belong to the same cloud and have the same
    ``point_id``. If an id occurs several times in a cloud, each such point of ``a`` is paired with the first in ``b``.

    Raises:
        CloudError: If the numbers of clouds differ.

    Example:
        >>> from geo3d.cloud import make_batch, select_points
        >>> batch = make_batch(torch.zeros(6, 3), num_points=3)
        >>> a = select_points(batch, torch.tensor([2, 1, 3, 5]), num_points=2)
        >>> b = select_points(batch, torch.tensor([1, 0, 5, 4]), num_points=2)
        >>> [index.tolist() for index in correspondences(a, b)]
        [[1, 3], [0, 2]]
    """
    if num_clouds(a) != num_clouds(b):
        raise CloudError(
            f"correspondences: the views have {num_clouds(a)} and {num_clouds(b)} clouds; give two views of one batch"
        )
    stride = torch.maximum(a.point_id.max(), b.point_id.max()) + 1
    key_a = a.batch * stride + a.point_id
    key_b, order = (b.batch * stride + b.point_id).sort(stable=True)
    place = torch.searchsorted(key_b, key_a).clamp(max=len(key_b) - 1)
    index_a = (key_b[place] == key_a).nonzero()[:, 0]
    return index_a, order[place[index_a]]


def near_correspondences(a: Batch, b: Batch, origin: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Flat indices (P,) into ``a`` and into ``b`` of points that lie in the same place, in the order of ``a``.

    Each point of ``a`` is paired with the nearest point of the same cloud in ``b``, if that is at most ``radius`` away
    before the invariances act.

    Args:
        a: One view.
        b: Another view of the same batch.
        origin: (M, 3) coordinates of the batch that both are views of, in which ``point_id`` counts.
        radius: In units of ``origin``.
    """
    pos_a, pos_b = origin[a.point_id], origin[b.point_id]
    nearest = knn_query(pos_b, layout_of(b), pos_a, layout_of(a), 1)[:, 0]
    index_a = ((pos_a - pos_b[nearest]).square().sum(1) <= radius**2).nonzero()[:, 0]
    return index_a, nearest[index_a]


def matched_rows(
    a: Batch, b: Batch, count: int, generator: torch.Generator, origin: Tensor | None = None, radius: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Flat indices (count,) into ``a`` and ``b`` of matching points, drawn at random.

    Points match if they are the same point (:func:`correspondences`), or, with a ``radius`` above 0, if they lie in the
    same place (:func:`near_correspondences`). All pairs are distinct unless there are fewer than ``count``; then they
    are repeated cyclically, so that every process has the same number. A cloud without a match gives no pair.

    Raises:
        CloudError: If the views have no point in common.
    """
    if radius > 0:
        if origin is None:
            raise CloudError("matched_rows: a radius needs origin, the coordinates of the batch of both views")
        index_a, index_b = near_correspondences(a, b, origin, radius)
    else:
        index_a, index_b = correspondences(a, b)
    if not len(index_a):
        raise CloudError(
            "the two views show no point in common; take more points of each cloud, a weaker crop or occlusion; for "
            "two frames of a scene, objective.radius=R"
        )
    order = torch.randperm(len(index_a), generator=generator, device=generator.device).to(index_a.device)
    chosen = order[torch.arange(count, device=order.device) % len(order)]
    return index_a[chosen], index_b[chosen]
