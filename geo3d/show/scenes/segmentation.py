"""The scene of a segmentation: input, truth, prediction and errors, with the IoU of each class."""

from collections.abc import Sequence

import numpy as np

from geo3d.show.palette import UNKNOWN, distinct
from geo3d.show.scene import Coloring, Pane, Points, Scene, camera_around

WRONG, RIGHT = (213, 94, 0), (205, 214, 222)


def segmentation_scene(
    pos: np.ndarray,
    colorings: tuple[Coloring, ...],
    predicted: np.ndarray,
    truth: np.ndarray | None,
    names: Sequence[str],
    iou: Sequence[float],
    title: str,
    numbers: np.ndarray | None = None,
) -> Scene:
    """A scene of the input and the prediction, and, where the truth is known, of the truth and the errors.

    Args:
        pos: (N, 3) points.
        colorings: Of the input.
        predicted: (N,) classes.
        truth: (N,) true classes, others than 0 .. K - 1 for points without one; None if there are none.
        names: K names.
        iou: (K,) IoU of each class, NaN where a class does not occur.
        title: Of the cloud.
        numbers: (N,) numbers of the points in the source; None: their rows.
    """
    names = [name.replace("_", " ") for name in names]
    shown = {"prediction": of_classes(predicted, names)}
    notes = []
    if truth is not None:
        known = (truth >= 0) & (truth < len(names))
        wrong = np.where(known, predicted != truth, 2).astype(np.int64)
        table = np.array([RIGHT, WRONG, UNKNOWN], dtype=np.uint8)
        errors = Coloring("prediction is", wrong, table, ("right", "wrong", "not judged"))
        shown = {"truth": of_classes(truth, names), **shown, "errors": errors}
        occurring = [(name, value) for name, value in zip(names, iou, strict=True) if not np.isnan(value)]
        listed = ", ".join(f"{name} {100 * value:.0f}" for name, value in occurring)
        right = (predicted == truth)[known].mean() if known.any() else float("nan")
        notes.append(f"{100 * right:.1f} % of {int(known.sum()):,} points right; IoU in percent: {listed}")
        notes.append(f"mean IoU of the {len(occurring)} classes that occur: {100 * np.nanmean(iou):.1f} %")
    panes = [Pane(title, (Points(pos, colorings, numbers=numbers),))]
    panes += [Pane(name, (Points(pos, (coloring,), numbers=numbers),)) for name, coloring in shown.items()]
    return Scene(tuple(panes), camera_around(pos), columns=2, notes=tuple(notes))


def of_classes(labels: np.ndarray, names: Sequence[str]) -> Coloring:
    """Points coloured by class, a class alike in all panes; other labels are unlabelled."""
    table = np.concatenate([distinct(len(names)), np.array([UNKNOWN], dtype=np.uint8)])
    known = (labels >= 0) & (labels < len(names))
    return Coloring("class", np.where(known, labels, len(names)).astype(np.int64), table, (*names, "unlabelled"))
