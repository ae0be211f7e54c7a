"""The job that compares predicted labels of points with the truth."""

from pathlib import Path
from typing import Annotated, Any

import torch

from geo3d.checks import OneOf, checked
from geo3d.errors import CloudError
from geo3d.io.arrays import read_archive
from geo3d.io.files import listing
from geo3d.jobs.predicting import labels_in
from geo3d.jobs.run import finish_run, run_folder
from geo3d.metrics import class_iou, confusion, mean_iou
from geo3d.show.confusion import class_table, plot_confusion


@checked
def score(
    prediction: str | Path, truth: str | Path, *, out: str | Path, task: Annotated[str, OneOf("segment")] = "segment"
) -> dict[str, Any]:
    """Metrics of predicted labels: ``miou``, ``class_iou`` and ``accuracy`` over the points with a true label.

    Args:
        prediction: A file written by ``geo3d predict out=NAME.npz``.
        truth: An NPZ file with the true labels ``label`` (N,); labels outside of the classes are left out.
        out: Run folder.
        task: What was predicted.

    Raises:
        CloudError: If a file cannot be read, or they have different numbers of points.
        ConfigError: If ``out`` holds another run.
    """
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
