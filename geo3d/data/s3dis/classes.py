"""The classes and areas of S3DIS."""

from collections.abc import Set as AbstractSet

from geo3d.errors import CloudError

CLASSES = (
    "ceiling", "floor", "wall", "beam", "column", "window", "door", "table", "chair", "sofa", "bookcase", "board",
    "clutter",
)  # fmt: skip
"""In the order of the labels."""
AREAS = range(1, 7)


def check_areas(areas: AbstractSet[int], source: str) -> None:
    """Check that all six areas are there: without one, results would be those of another benchmark.

    Raises:
        CloudError: If one is missing.
    """
    missing = [f"Area_{number}" for number in AREAS if number not in areas]
    if missing:
        raise CloudError(f"{source}: expected rooms of Area_1 to Area_6; {', '.join(missing)} missing")
