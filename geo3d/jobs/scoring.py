"""The job that compares predictions with the truth: labels of points here, joints in ``pose_scoring``."""

from pathlib import Path
from typing import Annotated, Any

import torch

from geo3d.checks import OneOf, checked
from geo3d.errors import CloudError, ConfigError
from geo3d.io.arrays import read_archive
from geo3d.io.files import listing
from geo3d.jobs.pose_scoring import score_pose
from geo3d.jobs.predicting import labels_in
from geo3d.jobs.run import finish_run, run_folder
from geo3d.metrics import class_iou, confusion, mean_iou
from geo3d.show.confusion import class_table, plot_confusion


@checked
def score(
    prediction: str | Path,
    truth: str | Path,
    *,
    out: str | Path,
    task: Annotated[str, OneOf("segment", "hand_pose")] = "segment",
    camera: str | None = None,
    prediction_key: str | None = None,
    truth_key: str | None = None,
) -> dict[str, Any]:
    """Metrics of predictions.

    Labels of points: ``miou``, ``class_iou`` and ``accuracy`` over the points with a true label. Joints of hands:
    ``mean_joint_error`` and ``joint_errors`` in mm, ``auc_0_50``, ``max_error_20`` and ``max_error_40``, see
    :func:`geo3d.pose_metrics.pose_metrics`.

    Args:
        prediction: A file written by ``geo3d predict out=NAME.npz``; for hands an NPZ file with joints
            (frames, joints, 3).
        truth: An NPZ file with the true labels ``label`` (N,); labels outside of the classes are left out. For hands
            the true joints, in the same file or another.
        out: Run folder.
        task: What was predicted.
        camera: For hands: ``nyu``, ``icvl`` or ``msra``, whose joints are pixels and depths in mm, or ``metric`` for
            coordinates in mm.
        prediction_key: For hands, the name of the array with the predicted joints: by default ``uvd`` (pixel column,
            pixel row, depth), and with ``camera=metric`` ``xyz``.
        truth_key: The same for the true joints.

    Raises:
        CloudError: If a file cannot be read, or the two do not fit.
        ConfigError: If ``out`` holds another run, or an option belongs to the other task.
    """
    of_hands = {"camera": camera, "prediction_key": prediction_key, "truth_key": truth_key}
    if task == "hand_pose":
        return score_pose(prediction, truth, out=out, **of_hands)
    if given := [name for name, value in of_hands.items() if value is not None]:
        raise ConfigError(f"{given[0]}: belongs to task=hand_pose; leave it out, or give task=hand_pose")
    return _score_labels(prediction, truth, out, task)


def _score_labels(prediction: str | Path, truth: str | Path, out: str | Path, task: str) -> dict[str, Any]:
    """Metrics of labels of points."""
    arrays = read_archive(prediction)
    if "classes" not in arrays:
        raise CloudError(
            f"{prediction}: expected label and classes, as written by geo3d predict; found {sorted(arrays)}"
        )
    names = [str(name) for name in arrays["classes"].tolist()]
    found, true = labels_in(arrays, prediction), labels_in(read_archive(truth), truth)
    if len(found) != len(true):
        raise CloudError(
            f"{truth}: has {len(true)} labels, {prediction} has {len(found)}; give those of the same cloud"
        )
    if len(found) and not 0 <= found.min() <= found.max() < len(names):
        raise CloudError(
            f"{prediction}: expected labels from 0 to {len(names) - 1}; found {found.min()} to {found.max()}"
        )
    counts = confusion(torch.from_numpy(found), torch.from_numpy(true), len(names))
    if not counts.sum():
        raise CloudError(f"{truth}: no label is one of the {len(names)} classes, which are numbered from 0")
    files = [Path(prediction), Path(truth)]
    manifest = {path.name: listing([path], path.parent) for path in files}
    ious = class_iou(counts).tolist()
    metrics: dict[str, Any] = {
        "miou": float(mean_iou(counts)),
        "class_iou": {name: None if iou != iou else iou for name, iou in zip(names, ious, strict=True)},
        "accuracy": float(counts.diagonal().sum() / counts.sum()),
        "points": int(counts.sum()),
    }
    with run_folder(out, manifest, {"task": task}) as folder:
        plot_confusion(counts.tolist(), names, folder / "confusion.png")
        print(class_table(metrics["class_iou"], counts.tolist()))
        finish_run(folder, metrics)
    return metrics
