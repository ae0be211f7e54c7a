"""The 16 classes and 50 parts of ShapeNetPart, and checks of the files that number them."""

from itertools import accumulate
from pathlib import Path

from geo3d.errors import CloudError
from geo3d.io.files import read_json, read_lines

SYNSETS = {
    "02691156": "airplane", "02773838": "bag", "02954340": "cap", "02958343": "car", "03001627": "chair",
    "03261776": "earphone", "03467517": "guitar", "03624134": "knife", "03636649": "lamp", "03642806": "laptop",
    "03790512": "motorbike", "03797390": "mug", "03948459": "pistol", "04099429": "rocket", "04225987": "skateboard",
    "04379243": "table",
}  # fmt: skip
"""The class of each synset, in the order of the labels."""
CLASSES = tuple(SYNSETS.values())
SIZES = (4, 2, 2, 4, 4, 3, 3, 2, 4, 2, 6, 2, 3, 3, 3, 3)
"""How many parts each class has."""
GROUPS = tuple(
    tuple(range(end - size, end)) for size, end in zip(SIZES, accumulate(SIZES), strict=True)
)  # parts are numbered through, class after class
"""For each class the labels of its parts."""
PARTS = tuple(f"{name} part {i}" for name, size in zip(CLASSES, SIZES, strict=True) for i in range(1, size + 1))
"""Names of the 50 parts; the files only number them."""
CATEGORIES = "all_object_categories.txt"
TO_PART, FROM_PART = "overallid_to_catid_partid.json", "catid_partid_to_overallid.json"


def check_categories(path: Path) -> None:
    """Check that a file lists the 16 classes, a name and a synset in each line, in the order of the labels.

    Raises:
        CloudError: If it lists others, or in another order, so that labels would mean other classes.
    """
    lines = [line.split() for line in read_lines(path)]
    for number, (synset, name) in enumerate(SYNSETS.items()):
        entry = lines[number] if number < len(lines) else []
        if [word.lower() for word in entry] != [name, synset]:
            there = " ".join(entry)[:60] or "nothing"
            raise CloudError(
                f"{path}: expected {name.capitalize()} {synset} as entry {number + 1} of 16; found {there}"
            )
    if len(lines) > len(SYNSETS):
        raise CloudError(f"{path}: expected the 16 classes of ShapeNetPart; found {len(lines)} lines")


def check_numbers(folder: Path) -> None:
    """Check that the tables of part numbers in a folder, where there are any, number the parts as geo3d does.

    Raises:
        CloudError: If a table is damaged, or gives a number to a part of another class.
    """
    known: dict[str, int] | None = None
    if (path := folder / TO_PART).exists():
        known = _inverse(read_json(path), path)
    if (path := folder / FROM_PART).exists():
        table = read_json(path)
        if not isinstance(table, dict) or (known is not None and table != known):
            raise CloudError(f"{path}: expected the inverse of {TO_PART}; found other numbers; download both again")
        _check_table(table, path)


def _inverse(rows: object, path: Path) -> dict[str, int]:
    """The number of each part, by synset and number within the class, from the list of 50 such pairs."""
    if not isinstance(rows, list) or any(not isinstance(row, list) or len(row) != 2 for row in rows):
        raise CloudError(f"{path}: expected a list of {len(PARTS)} pairs of synset and part; found something else")
    table = {f"{synset}_{part}": number for number, (synset, part) in enumerate(rows)}
    _check_table(table, path)
    return table


def _check_table(table: dict[str, int], path: Path) -> None:
    if sorted(table.values(), key=str) != sorted(range(len(PARTS)), key=str):
        raise CloudError(f"{path}: expected each of the parts 0 to {len(PARTS) - 1} once; found {len(table)} entries")
    for part, number in table.items():
        name = SYNSETS.get(part.split("_")[0])
        if name is None or number not in GROUPS[CLASSES.index(name)]:
            raise CloudError(f"{path}: expected part {number} in {PARTS[number].split()[0]}; found it in {part[:40]}")
