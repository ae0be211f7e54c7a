"""The classes of the ScanNet benchmark, and the raw categories that annotators wrote."""

import csv
from pathlib import Path
from typing import NamedTuple

from geo3d.data.scannet.names200 import NAMES200
from geo3d.errors import CloudError
from geo3d.io.files import read_bytes

NYU40 = {
    1: "wall", 2: "floor", 3: "cabinet", 4: "bed", 5: "chair", 6: "sofa", 7: "table", 8: "door", 9: "window",
    10: "bookshelf", 11: "picture", 12: "counter", 14: "desk", 16: "curtain", 24: "refrigerator",
    28: "shower curtain", 33: "toilet", 34: "sink", 36: "bathtub", 39: "other furniture",
}  # fmt: skip
"""The 20 classes of the benchmark by their number among the 40 classes of NYU Depth."""

CLASSES = tuple(NYU40.values())
NUMBERS = tuple(NYU40)
"""The NYU40 number of each class, in order."""

TSV = "scannetv2-labels.combined.tsv"


class LabelSet(NamedTuple):
    """The classes of one benchmark, and how they are numbered in the table of labels."""

    column: str
    """The column of the table with the numbers."""
    classes: dict[int, str]
    """The name of each class by its number, in the order of the classes."""

    def class_of(self, number: int) -> int:
        """The class, from 0 on, of a number of the table; -1 for numbers that the benchmark leaves out."""
        return list(self.classes).index(number) if number in self.classes else -1


LABEL_SETS = {"scannet20": LabelSet("nyu40id", NYU40), "scannet200": LabelSet("id", NAMES200)}
"""The two benchmarks. The one with 200 classes numbers the raw categories themselves, not the classes of NYU Depth."""


def class_of(nyu40: int) -> int:
    """The class, from 0 to 19, of an NYU40 number; -1 for all other numbers, which the benchmark leaves out.

    Some files hold numbers that do not exist (50 and 149); they are among the others.

    Example:
        >>> class_of(1), class_of(39), class_of(13), class_of(149)
        (0, 19, -1, -1)
    """
    return LABEL_SETS["scannet20"].class_of(nyu40)


def raw_categories(path: Path, label_set: str = "scannet20") -> dict[str, int]:
    """The class of each raw category, from the table of all labels; of a category that occurs twice, the first line.

    Args:
        path: The table.
        label_set: A name of :data:`LABEL_SETS`.

    Raises:
        CloudError: If the file is missing, or lacks the column ``raw_category`` or the one with the numbers.
    """
    chosen = LABEL_SETS[label_set]
    lines = read_bytes(path).decode("utf-8", "replace").splitlines()
    rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or not {"raw_category", chosen.column} <= rows[0].keys():
        columns = ", ".join(str(name) for name in (rows[0] if rows else {}))[:100]
        raise CloudError(
            f"{path}: expected a table with the columns raw_category and {chosen.column}; found {columns or 'nothing'}"
        )
    classes: dict[str, int] = {}
    for row in rows:
        number = (row[chosen.column] or "").strip()  # early copies of the table lack some numbers
        classes.setdefault(row["raw_category"], chosen.class_of(int(number)) if number.isdecimal() else -1)
    return classes
