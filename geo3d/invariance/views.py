"""Views of a batch: the same clouds mapped by different elements of an invariance."""

from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d import seeds
from geo3d.checks import Points, Range, checked
from geo3d.cloud import first_points, num_clouds, without_frame
from geo3d.errors import CloudError
from geo3d.geometry.normalize import Normalize, normalized
from geo3d.invariance import Invariance, Resample


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

    Args:
        invariance: The invariance whose elements make the views.
        num_points: Each view first draws this many points of each cloud (all if there are fewer). None keeps them all.
        num_views: Number of views.
        normalize: How each cloud is then normalised, as in evaluation: ``unit_sphere``, ``box`` or ``none``. The
            invariance acts last, so that normalisation does not undo its shifts and scales.

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
            return [self._view(batch, seeds.generator(*key, "view", i)) for i in range(self.num_views)]

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


def matched_rows(a: Batch, b: Batch, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Flat indices (count,) into ``a`` and ``b`` of points that both contain, drawn from all :func:`correspondences`.

    All pairs are distinct unless there are fewer than ``count``; then they are repeated cyclically, so that every
    process has the same number. A cloud without a match gives no pair.

    Raises:
        CloudError: If the views have no point in common.
    """
    index_a, index_b = correspondences(a, b)
    if not len(index_a):
        raise CloudError(
            "the two views show no point in common; take more points of each cloud, or a weaker crop or occlusion"
        )
    order = torch.randperm(len(index_a), generator=generator, device=generator.device).to(index_a.device)
    chosen = order[torch.arange(count, device=order.device) % len(order)]
    return index_a[chosen], index_b[chosen]
