"""Reading files with clear errors, and writing files completely or not at all."""

import hashlib
import json
import os
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from geo3d.errors import CloudError, Geo3dError
from geo3d.io.owner import DRAFT, held, sweep


def existing_file(path: str | Path) -> Path:
    """The path of a file, after a check that the file can be read.

    Raises:
        CloudError: If the file does not exist, is a folder, or may not be read.
    """
    path = Path(path)
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        raise CloudError(f"{path}: no such file") from None
    except OSError as error:  # the name is too long, or symbolic links form a loop
        raise CloudError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}"[:600]) from None
    if stat.S_ISDIR(kind):
        raise CloudError(f"{path}: expected a file, found a folder; data=folder reads whole folders")
    if not os.access(path, os.R_OK):
        raise CloudError(f"{path}: the file may not be read; check its permissions")
    return path


def existing_folder(path: str | Path, expected: str = "") -> Path:
    """The path of a folder, after a check that the folder exists.

    Args:
        path: The folder.
        expected: What the folder should contain, for the error message.

    Raises:
        CloudError: If the folder does not exist, or is a file.
    """
    path = Path(path)
    if not path.is_dir():
        problem = "expected a folder, found a file" if path.exists() else "no such folder"
        raise CloudError(f"{path}: {problem}" + (f"; expected {expected}" if expected else ""))
    return path


def read_bytes(path: str | Path) -> bytes:
    """All bytes of the file.

    Raises:
        CloudError: If it is missing, a folder, not readable, or empty.
    """
    path = existing_file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CloudError(f"{path}: cannot be read: {error.strerror}") from error
    if not content:
        raise CloudError(f"{path}: the file is empty (0 bytes)")
    return content


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file that are not blank, without blanks at their ends.

    Raises:
        CloudError: If the file cannot be read, or has no such line.
    """
    text = read_bytes(path).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise CloudError(f"{path}: the file has only blank lines; expected an entry in each")
    return lines


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        CloudError: If the file cannot be read, or is no JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise CloudError(f"{path}: damaged or cut off: {str(error)[:100]}") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path that replaces ``path`` if the block succeeds, and is removed if it fails.

    The temporary file lies in the same folder and has the same suffix. Missing folders are created. Temporary files
    that killed processes left for the same ``path`` are removed.

    Raises:
        Geo3dError: If the folder cannot be written to, or ``path`` is a folder.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replacing(folder / "notes.txt") as temporary:
        ...     _ = temporary.write_text("whole")
        >>> [file.name for file in folder.iterdir()]
        ['notes.txt']
    """
    path = Path(path)
    if path.is_dir():
        raise Geo3dError(f"{path}: expected the name of a file to write, found a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Geo3dError(f"{path.parent}: the folder cannot be made: {error.strerror}") from error
    if not os.access(path.parent, os.W_OK):
        raise Geo3dError(f"{path.parent}: the folder may not be written to; choose another or change its permissions")
    sweep(path.parent, f"{DRAFT}*-{escape(path.name)}")
    temporary = path.with_name(f"{DRAFT}{uuid.uuid4().hex[:12]}-{path.name}")
    temporary.touch()
    try:
        with held(temporary):
            yield temporary
            synchronize(temporary)
            os.replace(temporary, path)
            synchronize(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def draft_folder(parent: Path, name: str) -> Iterator[Path]:
    """An empty folder in ``parent``, which is removed when the block ends.

    If the process is killed, the next block with the same name removes the folder.

    Args:
        parent: An existing folder.
        name: Name of what the block builds; the name of the folder contains it.
    """
    sweep(parent, f"{DRAFT}*-{escape(name)}.d")
    with TemporaryDirectory(prefix=DRAFT, suffix=f"-{name}.d", dir=parent) as folder, held(Path(folder)):
        yield Path(folder)


def synchronize(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk.

    Otherwise a crash could keep the new name of a file but lose its content.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | Path, obj: Any) -> None:
    """Write ``obj`` as indented JSON, completely or not at all."""
    text = json.dumps(obj, indent=2) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def listing(files: Iterable[Path], root: Path) -> dict[str, Any]:
    """A summary that identifies a set of files without reading them: number, bytes, a hash of names and sizes.

    Returns:
        ``num_files``, ``bytes``, ``sha256`` and, for at most 100 files, ``files``: name relative to root -> size.
    """
    sizes = {file.relative_to(root).as_posix(): existing_file(file).stat().st_size for file in sorted(files)}
    digest = hashlib.sha256(json.dumps(sorted(sizes.items())).encode()).hexdigest()
    summary: dict[str, Any] = {"num_files": len(sizes), "bytes": sum(sizes.values()), "sha256": digest}
    return summary | ({"files": sizes} if len(sizes) <= 100 else {})
