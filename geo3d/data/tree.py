"""Which files lie in a folder, and which of its subfolders are splits."""

import os
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from geo3d.errors import CloudError

SPLITS = {"train": ("train", "training"), "test": ("test", "testing"), "val": ("val", "valid", "validation", "dev")}
"""The folder names of each split; upper and lower case do not matter."""


def files_below(base: Path) -> list[Path]:
    """All files below a folder, sorted by path; names that begin with a dot are left out.

    Links to folders are followed, unless they lead back to a folder that contains them. Broken links are listed, so
    that reading one raises an error that names it.

    Raises:
        CloudError: If a folder cannot be read, as its files would be missing without a message.
    """
    return sorted(_walk(base, ()), key=lambda file: file.relative_to(base).parts)


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> list[Path]:
    """The files below one folder; ``above`` are the device and inode numbers of the folders that contain it."""
    try:
        status = folder.stat()
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
        kinds = [(Path(entry.path), entry.is_dir(), entry.is_file() or entry.is_symlink()) for entry in entries]
    except OSError as error:
        raise CloudError(f"{folder}: the folder cannot be read: {error.strerror}; check its permissions") from error
    here = (status.st_dev, status.st_ino)
    if here in above:
        return []
    files = [path for path, is_folder, is_file in kinds if is_file and not is_folder]
    return files + [file for path, is_folder, _ in kinds if is_folder for file in _walk(path, (*above, here))]


def matches(path: Path, pattern: str) -> bool:
    """Whether a relative path fits a glob, in which ``**`` stands for any number of folders.

    Example:
        >>> matches(Path("chair/0.ply"), "**/*.ply"), matches(Path("0.ply"), "**/*"), matches(Path("a/0.ply"), "*")
        (True, True, False)
    """
    return _fits(path.parts, tuple(part for part in pattern.split("/") if part != "."))


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[i:], pattern[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatch(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def split_folders(root: Path) -> dict[str, Path]:
    """The subfolders that are splits, by the names of the splits: train, test, val.

    Raises:
        CloudError: If a split has several, such as ``train`` and ``Train``, or the folder cannot be read.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    except OSError as error:
        raise CloudError(f"{root}: the folder cannot be read: {error.strerror}; check its permissions") from error
    splits: dict[str, Path] = {}
    for split, known in SPLITS.items():
        folders = [name for name in names if name.lower() in known]
        if len(folders) > 1:
            raise CloudError(f"{root}: expected one folder for the split {split}, found {', '.join(folders)}")
        if folders:
            splits[split] = root / folders[0]
    return splits
