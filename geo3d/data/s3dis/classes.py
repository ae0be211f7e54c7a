"""The classes and areas of S3DIS."""

import warnings
from collections.abc import Set as AbstractSet

from geo3d.errors import CloudError

CLASSES = (
    "ceiling", "floor", "wall", "beam", "column", "window", "door", "table", "chair", "sofa", "bookcase", "board",
    "clutter",
)  # fmt: skip
"""In the order of the labels."""
AREAS = range(1, 7)


def check_areas(areas: AbstractSet[int], wanted: AbstractSet[int], source: str) -> None:
    """Check that some of the wanted areas are there, and warn if not all are, as results are then not comparable.

    Raises:
        CloudError: If none is there.
    """
    missing = [f"Area_{number}" for number in sorted(wanted - areas)]
    if len(missing) == len(wanted):
        raise CloudError(f"{source}: expected rooms of {', '.join(missing)}; there are none")
    if missing:
        warnings.warn(f"{source}: {', '.join(missing)} missing; results are not those of the benchmark", stacklevel=2)
