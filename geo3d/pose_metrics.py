"""Errors of predicted joints in millimetres: per joint, per frame, and after a similarity has been undone."""

from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST, STEP = 50.0, 0.5
"""The area under the curve is taken over thresholds from 0 to 50 mm, in steps of half a millimetre."""


def joint_distances(prediction: Tensor, truth: Tensor) -> Tensor:
    """(F, J) distances of predicted joints (F, J, 3) from the true ones, in float64.

    Example:
        >>> joint_distances(torch.zeros(1, 2, 3), torch.tensor([[[3.0, 4.0, 0.0], [0.0, 0.0, 1.0]]])).tolist()
        [[5.0, 1.0]]
    """
    return (prediction.double() - truth.double()).norm(dim=-1)


def success(errors: Tensor, thresholds: Tensor | Sequence[float]) -> Tensor:
    """(T,) fraction of the errors that are at most each threshold.

    Args:
        errors: Any shape: distances of joints, or the largest one of each frame.
        thresholds: (T,)

    Example:
        >>> success(torch.tensor([1.0, 2.0, 3.0, 9.0]), [2.0, 5.0]).tolist()
        [0.5, 0.75]
    """
    limits = torch.as_tensor(thresholds, dtype=torch.float64)
    ordered = errors.double().flatten().sort().values
    return torch.searchsorted(ordered, limits, right=True).double() / max(1, len(ordered))


def area_under_success(errors: Tensor) -> Tensor:
    """() the mean of :func:`success` over thresholds from 0 to 50 mm in steps of 0.5 mm.

    Example:
        >>> float(area_under_success(torch.tensor([0.0, 100.0])))
        0.5
    """
    return success(errors, torch.arange(round(LARGEST / STEP) + 1, dtype=torch.float64) * STEP).mean()


def aligned(prediction: Tensor, truth: Tensor) -> Tensor:
    """(F, J, 3) the prediction of each frame, moved, turned and scaled so that it fits the truth best, in float64.

    The orthogonal Procrustes problem in the least-squares sense, without reflections. A prediction whose joints all
    coincide is moved to the middle of the true ones.

    Args:
        prediction: (F, J, 3)
        truth: (F, J, 3)
    """
    found, true = prediction.double(), truth.double()
    middle = true.mean(1, keepdim=True)
    found, true = found - found.mean(1, keepdim=True), true - middle
    left, size, right = torch.linalg.svd(found.mT @ true)
    sign = torch.ones_like(size)
    sign[:, -1] = torch.where(torch.linalg.det(left @ right) < 0, -1.0, 1.0)
    turn = left * sign[:, None] @ right
    scale = (size * sign).sum(1) / found.square().sum((1, 2)).clamp(min=1e-300)
    return scale[:, None, None] * (found @ turn) + middle


def bone_lengths(joints: Tensor, bones: Sequence[tuple[int, int]]) -> Tensor:
    """(F, number of bones) lengths of the bones, each given by the numbers of its two joints.

    Example:
        >>> bone_lengths(torch.tensor([[[0.0, 0, 0], [0, 0, 2], [0, 3, 2]]]), [(0, 1), (1, 2)]).tolist()
        [[2.0, 3.0]]
    """
    first, second = torch.tensor(list(bones), dtype=torch.long).view(-1, 2).unbind(1)
    return joint_distances(joints[:, first], joints[:, second])
