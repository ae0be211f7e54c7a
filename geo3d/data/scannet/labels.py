"""The classes of the ScanNet benchmark, and the raw categories that annotators wrote."""

import csv
from pathlib import Path

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


def class_of(nyu40: int) -> int:
    """The class, from 0 to 19, of an NYU40 number; -1 for all other numbers, which the benchmark leaves out.

    Some files hold numbers that do not exist (50 and 149); they are among the others.

    Example:
        >>> class_of(1), class_of(39), class_of(13), class_of(149)
        (0, 19, -1, -1)
    """
    return NUMBERS.index(nyu40) if nyu40 in NYU40 else -1


def raw_categories(path: Path) -> dict[str, int]:
    """The class of each raw category, from the table of all labels; of a category that occurs twice, the first line.

    Raises:
        CloudError: If the file is missing, or lacks the columns ``raw_category`` and ``nyu40id``.
    """
    lines = read_bytes(path).decode("utf-8", "replace").splitlines()
    rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or not {"raw_category", "nyu40id"} <= rows[0].keys():
        found = ", ".join(str(name) for name in (rows[0] if rows else {}))[:100]
        raise CloudError(
            f"{path}: expected a table with the columns raw_category and nyu40id; found {found or 'nothing'}"
        )
    classes: dict[str, int] = {}
    for row in rows:
        number = (row["nyu40id"] or "").strip()  # early copies of the table lack some numbers
        classes.setdefault(row["raw_category"], class_of(int(number)) if number.isdecimal() else -1)
    return classes
