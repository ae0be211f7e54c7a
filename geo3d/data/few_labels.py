"""Clouds of which only a few points keep their label."""

import torch
from torch import Tensor
from torch_geometric.data import Data

from geo3d.cloud import with_


def few_labels(cloud: Data, count: int, ignore: int, draw: torch.Generator) -> tuple[Data, Tensor | None]:
    """The cloud with ``count`` labels of points, drawn at random, and the indices of these points.

    A cloud without ``point_y`` stays as it is, and there are no indices.

    Args:
        cloud: One cloud; it is not changed.
        count: How many points keep their label; all, if no more have one.
        ignore: The label of points without a label.
        draw: For the draw.

    Example:
        >>> cloud = Data(pos=torch.zeros(5, 3), point_y=torch.tensor([0, 1, 1, -1, 0]))
        >>> few, kept = few_labels(cloud, 2, -1, torch.Generator().manual_seed(0))
        >>> int((few.point_y >= 0).sum()), bool((few.point_y[kept] == cloud.point_y[kept]).all())
        (2, True)
    """
    labels = cloud.get("point_y")
    if labels is None:
        return cloud, None
    known = (labels != ignore).nonzero()[:, 0]
    kept = known[torch.randperm(len(known), generator=draw)[:count]]
    few = torch.full_like(labels, ignore)
    few[kept] = labels[kept]
    return with_(cloud, point_y=few), kept
