"""The four setups of DexYCB: which people, sequences and cameras each split has."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from geo3d.data.hands.subjects import check_subjects
from geo3d.errors import CloudError

SERIALS = (
    "836212060125", "839512060362", "840412060917", "841412060263", "932122060857", "932122060861", "932122061900",
    "932122062010",
)  # fmt: skip
"""The eight cameras, in the order by which setups number them."""
SUBJECT = re.compile(r"\d{8}-(subject-\d\d)", re.ASCII)
PEOPLE, SEQUENCES = range(1, 11), range(100)
"""The numbers of all people, and the places of a person's sequences in the order of their names."""


class Division(NamedTuple):
    """What a split of a setup consists of."""

    people: Collection[int] = PEOPLE
    sequences: Collection[int] = SEQUENCES
    serials: Collection[str] = SERIALS


SETUPS = {
    "s0": {
        "train": Division(sequences=[place for place in SEQUENCES if place % 5 != 4]),
        "test": Division(people=range(3, 11), sequences=[place for place in SEQUENCES if place % 5 == 4]),
    },
    "s1": {"train": Division(people=(1, 2, 3, 4, 5, 6, 10)), "test": Division(people=(8, 9))},
    "s2": {"train": Division(serials=SERIALS[:6]), "test": Division(serials=SERIALS[7:])},
    "s3": {
        "train": Division(sequences=[place for place in SEQUENCES if place // 5 not in (3, 7, 11, 15, 19)]),
        "test": Division(sequences=[place for place in SEQUENCES if place // 5 in (7, 11, 15)]),
    },
}
"""As in the toolkit of the data set. What is neither for training nor for testing is for validation."""


def sequence_folders(root: Path, division: Division) -> list[Path]:
    """The folders of the sequences of a split, by person and name.

    Raises:
        CloudError: If no person of the split is there, or one does not have all 100 sequences although the setup goes
            by their order.
    """
    subjects = {m[1]: path for path in sorted(root.iterdir()) if (m := SUBJECT.fullmatch(path.name)) and path.is_dir()}
    wanted = [f"subject-{number:02d}" for number in sorted(division.people)]
    check_subjects(wanted, subjects, str(root))
    return [folder for name in wanted if name in subjects for folder in _sequences(subjects[name], division.sequences)]


def _sequences(subject: Path, places: Collection[int]) -> list[Path]:
    """The folders of a person's sequences at these places."""
    folders = sorted(path for path in subject.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(places) == len(SEQUENCES):
        return folders
    if len(folders) != len(SEQUENCES):
        raise CloudError(
            f"{subject}: expected {len(SEQUENCES)} sequences, by whose order this setup divides them; found "
            f"{len(folders)}; complete the folder, or give setup=s1 or s2"
        )
    return [folders[place] for place in sorted(places)]
