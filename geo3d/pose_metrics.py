"""Errors of predicted joints in millimetres: per joint, per frame, and after a similarity has been undone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

MILLIMETRES = 1000.0
"""In a metre."""
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


def pose_metrics(prediction: Tensor, truth: Tensor, bones: Sequence[tuple[int, int]] = ()) -> dict[str, Any]:
    """The metrics of predicted joints (F, J, 3) in mm.

    ``mean_joint_error``, ``joint_errors`` and ``aligned_joint_error`` are in mm. ``auc_0_50`` is the area under the
    curve of all joints, from 0 to 1. ``max_error_20`` is the fraction of frames in which no joint is more than 20 mm
    off; ``max_error_40`` is the same for 40 mm. For ``aligned_joint_error`` each frame is first moved, turned and
    scaled to fit the truth best. With ``bones``, ``bone_length_error`` is the root mean square error of their lengths.
    """
    errors = joint_distances(prediction, truth)
    good = success(errors.amax(1), (20.0, 40.0)).tolist()
    metrics = {
        "mean_joint_error": float(errors.mean()),
        "joint_errors": errors.mean(0).tolist(),
        "auc_0_50": float(area_under_success(errors)),
        "max_error_20": good[0],
        "max_error_40": good[1],
        "aligned_joint_error": float(joint_distances(aligned(prediction, truth), truth).mean()),
        "frames": len(errors),
    }
    if bones:
        off = bone_lengths(prediction, bones) - bone_lengths(truth, bones)
        metrics["bone_length_error"] = float(off.square().mean().sqrt())
    return metrics


def calibration(prediction: Tensor, truth: Tensor, std: Tensor, bins: int = 10) -> dict[str, Any]:
    """How far predicted standard deviations can be trusted: predicted against actual ones, in bins of equal size.

    ``predicted`` and ``actual`` are root mean squares in mm, by rising prediction; ``error`` is the mean of their
    relative differences (ENCE, arXiv 1905.11659): 0 if the uncertainty is right everywhere.

    Args:
        prediction: (F, J, 3) in mm.
        truth: (F, J, 3) in mm.
        std: (F, J) predicted standard deviation of each coordinate, in mm.
        bins: Number of bins.

    Example:
        >>> calibration(torch.full((4, 1, 3), 2.0), torch.zeros(4, 1, 3), torch.full((4, 1), 1.0), bins=1)
        {'error': 1.0, 'predicted': [1.0], 'actual': [2.0]}
    """
    order = std.flatten().argsort()
    variance = (prediction.double() - truth.double()).square().mean(2).flatten()[order]
    claimed = std.double().flatten().square()[order]
    predicted = [float(part.mean().sqrt()) for part in claimed.tensor_split(bins) if len(part)]
    actual = [float(part.mean().sqrt()) for part in variance.tensor_split(bins) if len(part)]
    away = [abs(a - b) / max(a, 1e-12) for a, b in zip(predicted, actual, strict=True)]
    return {"error": sum(away) / len(away), "predicted": predicted, "actual": actual}


def error_table(errors: Sequence[float], names: Sequence[str] | None = None) -> str:
    """A line for each joint with its mean error in mm, and one for their mean.

    Example:
        >>> print(error_table([1.0, 2.0], ["wrist", "tip"]))
        joint  error mm
        wrist      1.00
        tip        2.00
        mean      1.500
    """
    titles = [str(number) for number in range(len(errors))] if names is None else list(names)
    width = max(map(len, ("joint", *titles)))
    rows = [f"{title:{width}}  {error:8.2f}" for title, error in zip(titles, errors, strict=True)]
    return "\n".join([f"{'joint':{width}}  error mm", *rows, f"{'mean':{width}}  {sum(errors) / len(errors):8.3f}"])
