"""How much of the plain geometry of a point its features hold: the shortcut that point objectives may take.

Objectives on points can be met by features that merely tell where a point is and how its surface lies (the geometric
shortcut, arXiv 2503.16429). Such features help no task. So height, position, normal and density are predicted linearly
from the features, and compared with what the untrained encoder's features give.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Batch

from geo3d.cloud import layout_of
from geo3d.geometry.per_cloud import by_cloud, reduce_clouds
from geo3d.ops.search.knn import knn

NEIGHBORS = 16
"""Neighbours of a point that tell its density, and its normal where the clouds have none."""
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Penalties of the weights, for each row, on features of variance 1; the best for clouds left out is taken."""


def plain_geometry(batch: Batch) -> dict[str, Tensor]:
    """(M, T) what is predicted, by name, in float64.

    - ``height``: z, from the cloud's mean.
    - ``position``: x and y, likewise.
    - ``normal``: the six products of the coordinates of the normal, which do not depend on its sign. Where the clouds
      have no normals, the direction in which 16 neighbours vary least stands for it.
    - ``density``: the logarithm of the mean distance to 16 neighbours, from the cloud's mean.
    """
    pos = batch.pos.double()
    centered = by_cloud(torch.sub, pos, reduce_clouds(pos, batch, "mean"), batch)
    offset = pos[knn(batch.pos, layout_of(batch), NEIGHBORS)] - pos[:, None]  # the point itself is one of them
    normal = batch.get("normal")
    if normal is None:
        spread = offset - offset.mean(1, keepdim=True)
        normal = torch.linalg.eigh(spread.mT @ spread).eigenvectors[:, :, 0]
    a, b = torch.triu_indices(3, 3).to(pos.device)
    sparse = offset.norm(dim=2).mean(1, keepdim=True).clamp(min=1e-12).log()
    return {
        "height": centered[:, 2:],
        "position": centered[:, :2],
        "normal": normal.double()[:, a] * normal.double()[:, b],
        "density": by_cloud(torch.sub, sparse, reduce_clouds(sparse, batch, "mean"), batch),
    }


def held_out_score(x: Sequence[Tensor], y: Sequence[Tensor]) -> float:
    """R^2 on the second half of the clouds, of a regression fitted on the first half.

    The penalty is the one of :data:`RIDGES` that predicts the second quarter best from the first.

    Args:
        x: The features (N, C) of each cloud, of at least two.
        y: What is predicted (N, T), for each cloud.
    """
    x, y = list(x), list(y)
    half, quarter = (len(x) + 1) // 2, (len(x) + 1) // 4
    fit, rest = (torch.cat(x[:half]), torch.cat(y[:half])), (torch.cat(x[half:]), torch.cat(y[half:]))
    if quarter == 0 or quarter == half:
        return explained(*fit, *rest, RIDGES[2])
    first = torch.cat(x[:quarter]), torch.cat(y[:quarter])
    second = torch.cat(x[quarter:half]), torch.cat(y[quarter:half])
    return explained(*fit, *rest, max(RIDGES, key=lambda ridge: explained(*first, *second, ridge)))


def explained(x: Tensor, y: Tensor, other_x: Tensor, other_y: Tensor, ridge: float = 1e-3) -> float:
    """R^2 of a ridge regression from ``x`` (n, C) to ``y`` (n, T), on the rows of ``other_x`` and ``other_y``.

    It is averaged over the columns of ``y`` that vary: 1 if they are predicted exactly, 0 if no better than by their
    mean, below 0 if worse.

    Example:
        >>> x = torch.eye(4).repeat(50, 1)
        >>> round(explained(x, x[:, :1], x, x[:, :1]), 3)
        1.0
    """
    x, y, other_x, other_y = (each.double() for each in (x, y, other_x, other_y))
    mean, std = x.mean(0), x.std(0)
    std = torch.where(std > 1e-9 * (1 + mean.abs()), std, torch.ones_like(std))
    a, b, target = (x - mean) / std, (other_x - mean) / std, y.mean(0)
    square = a.T @ a + ridge * len(a) * torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
    weight = torch.linalg.solve(square, a.T @ (y - target))
    error = (b @ weight + target - other_y).square().mean(0)
    total = other_y.var(0, correction=0)
    varies = total > 1e-12
    return float((1 - error[varies] / total[varies]).mean()) if bool(varies.any()) else 0.0
