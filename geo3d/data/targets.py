"""The targets of a data set: what can be learned from it, by the field of the record that holds the labels."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from geo3d.errors import CloudError


class Classes(NamedTuple):
    """One class out of a list, for a cloud (``y``) or for each point (``point_y``)."""

    names: tuple[str, ...]
    ignore: int | None = None
    """The label that stands for no class; None if every cloud or point has one."""
    groups: tuple[tuple[int, ...], ...] | None = None
    """For parts of objects: for each class of ``y`` the labels that points of its clouds may have."""


class Joints(NamedTuple):
    """Positions (J, 3) of named joints (``joints``)."""

    names: tuple[str, ...]


Target = Classes | Joints


def targets_of(dataset: Any) -> Mapping[str, Target]:
    """The targets that a data set declares, or ``y`` if it only has ``classes`` and ``labels``.

    Example:
        >>> from geo3d.data import Shapes
        >>> list(targets_of(Shapes(size=2)))
        ['y', 'point_y']
    """
    declared = getattr(dataset, "targets", None)
    if declared is not None:
        return declared
    return {"y": Classes(tuple(dataset.classes))} if labels_of(dataset) is not None else {}


def labels_of(dataset: Any) -> Tensor | None:
    """(n,) int64 labels of the clouds; None if the data set has none.

    Raises:
        CloudError: If they are not one integer per cloud.
    """
    labels = getattr(dataset, "labels", None)
    if labels is None:
        return None
    try:
        labels = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        raise CloudError(f"{type(dataset).__name__}.labels: expected a tensor (n,), found {labels!r:.60}") from None
    if labels.shape != (len(dataset),) or labels.dtype.is_floating_point or labels.dtype == torch.bool:
        raise CloudError(
            f"{type(dataset).__name__}.labels: expected {len(dataset)} integers, one per cloud; found "
            f"{tuple(labels.shape)} of {labels.dtype}"
        )
    return labels.long()


def check_labels(labels: Tensor, num_classes: int, source: str, ignore: int | None = None) -> None:
    """Check that labels count classes from 0 on.

    Args:
        labels: (n,) int64.
        num_classes: The number of classes.
        source: Where the labels come from, for the message.
        ignore: A further label that is allowed.

    Raises:
        CloudError: If a label is none of them.

    Example:
        >>> check_labels(torch.tensor([0, 2, -1]), 3, "a.npy", ignore=-1)
    """
    wrong = (labels < 0) | (labels >= num_classes)
    if ignore is not None:
        wrong &= labels != ignore
    if bool(wrong.any()):
        also = "" if ignore is None else f", or {ignore} for none"
        first = int(labels[wrong][0])
        raise CloudError(f"{source}: expected labels from 0 to {num_classes - 1}{also}; found {first}")


def target_named(dataset: Any, name: str) -> Target:
    """One target of a data set.

    Raises:
        CloudError: If the data set has none of that name.
    """
    known = targets_of(dataset)
    if name == "point_y" and name not in known and hasattr(dataset, "point_classes"):
        raise CloudError(
            f"{type(dataset).__name__}: the labels of points need names; give data.point_classes=[NAME,...], those of "
            "the labels 0, 1, ..."
        )
    if name not in known:
        raise CloudError(
            f"{type(dataset).__name__} has no target {name!r}; "
            + (
                f"it has {', '.join(known)}; declare it in the class's targets, see geo3d.data.targets"
                if known
                else "it has no labels; put the files in one folder per class"
            )
        )
    if name == "y" and labels_of(dataset) is None:
        raise CloudError(f"{type(dataset).__name__} declares the target 'y' but has no labels; give it labels (n,)")
    return known[name]
