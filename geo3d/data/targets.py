"""The targets of a data set: what can be learned from it, by the field of the record that holds the labels."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from geo3d.errors import CloudError


class Classes(NamedTuple):
    """One class out of a list, for a cloud (``y``) or for each point (``point_y``)."""

    names: tuple[str, ...]
    ignore: int | None = None
    """The label that stands for no class; None if every cloud or point has one."""


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
    labelled = getattr(dataset, "labels", None) is not None
    return {"y": Classes(tuple(dataset.classes))} if labelled else {}


def target_named(dataset: Any, name: str) -> Target:
    """One target of a data set.

    Raises:
        CloudError: If the data set has none of that name.
    """
    known = targets_of(dataset)
    if name not in known:
        raise CloudError(
            f"{type(dataset).__name__} has no target {name!r}; "
            + (f"it has {', '.join(known)}" if known else "it has no labels; put the files in one folder per class")
        )
    return known[name]
