"""Whether the features of points tell objects apart that touch one another."""

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

RADIUS = 0.05
"""Only pairs of points at most this far apart count, in units of the cloud."""


def area_under_curve(scores: Tensor, same: Tensor) -> float:
    """The probability that a pair of the same object has a higher score than one of two objects; ties count half.

    Args:
        scores: (P,) of pairs.
        same: (P,) bool; at least one pair of each kind.

    Example:
        >>> area_under_curve(torch.tensor([0.9, 0.2, 0.5]), torch.tensor([True, False, True]))
        1.0
    """
    rank, alike = rankdata(scores.double().numpy()), same.numpy()
    positive, negative = int(alike.sum()), int((~alike).sum())
    return float((rank[alike].sum() - positive * (positive + 1) / 2) / (positive * negative))


def object_auc(x: Tensor, pos: Tensor, instance: Tensor, radius: float = RADIUS) -> tuple[float, float] | None:
    """How well the cosine of features tells pairs of one object from pairs of two, and how well nearness alone does.

    Both are areas under the curve (:func:`area_under_curve`) over all pairs of points that belong to objects and are at
    most ``radius`` apart. Nearness is what features must beat that merely tell where a point is.

    Args:
        x: (N, C) features of the points of one cloud.
        pos: (N, 3)
        instance: (N,) the object of each point, from 1 on; 0 for none.
        radius: In units of ``pos``.

    Returns:
        Both areas; None if there are no pairs of one of the two kinds.
    """
    of_objects = (instance > 0).nonzero()[:, 0]
    x, pos, instance = (each[of_objects].cpu() for each in (x, pos, instance))
    x = torch.nn.functional.normalize(x.float(), dim=1)
    cosines, nearness, same = [], [], []
    for start in range(0, len(pos), 1024):
        rows = slice(start, start + 1024)
        distance = torch.cdist(pos[rows].double(), pos.double())
        later = torch.arange(len(pos)) > torch.arange(start, start + len(distance))[:, None]
        a, b = ((distance <= radius) & later).nonzero().unbind(1)
        cosines.append((x[start + a] * x[b]).sum(1))
        nearness.append(-distance[a, b])
        same.append(instance[start + a] == instance[b])
    kinds = torch.cat(same) if same else torch.zeros(0, dtype=torch.bool)
    if not len(kinds) or bool(kinds.all()) or not bool(kinds.any()):
        return None
    return area_under_curve(torch.cat(cosines), kinds), area_under_curve(torch.cat(nearness), kinds)


def mean_areas(areas: list[tuple[float, float] | None]) -> tuple[float, float] | None:
    """The means over the clouds that have both kinds of pairs; None if there is no such cloud."""
    known = [each for each in areas if each is not None]
    return tuple(np.mean(known, axis=0).tolist()) if known else None
