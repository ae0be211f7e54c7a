"""Files and folders with one owner at a time, by locks of the operating system, which end with the owner's process."""

import errno
import os
import platform
import shutil
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from geo3d.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
DRAFT = ".geo3d-"
"""The beginning of the names of unfinished files and folders."""
RANKS = ("LOCAL_RANK", "RANK", "NODE_RANK")
"""Environment variables that number the processes of distributed training; number 0 owns the folder for all."""

_owned: dict[Path, tuple[int, int]] = {}  # folder -> thread, depth of nested blocks
_open: set[int] = set()


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor of a file or folder to lock; forked processes close theirs, so the lock ends with this process."""
    descriptor = os.open(path, flags, 0o644)
    _open.add(descriptor)
    try:
        yield descriptor
    finally:
        if descriptor in _open:
            _open.remove(descriptor)
            os.close(descriptor)


def _forget() -> None:
    for descriptor in _open:
        os.close(descriptor)
    _open.clear()
    _owned.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def lock(descriptor: int) -> bool:
    """Whether this process locked an open file or folder; False if another process holds the lock.

    Where there are no locks (on Windows and some file systems), the result is always True.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        warnings.warn(f"the file system has no locks ({error.strerror}); do not run twice in one folder", stacklevel=3)
    return True


@contextmanager
def owned(folder: str | Path) -> Iterator[Path]:
    """The folder, which this thread owns inside the block; it is created if it is missing.

    One thread may nest such blocks. In distributed training the process of rank 0 owns the folder for all.

    Raises:
        ConfigError: If another process or thread owns the folder, or it cannot be created or written to.
    """
    folder = made(folder)
    place, here = folder.resolve(), threading.get_ident()
    thread, depth = _owned.get(place, (here, 0))
    if thread != here:
        raise ConfigError(f"out={folder}: another thread works in this folder; wait for it, or give another out=DIR")
    if depth or any(os.environ.get(rank, "0") != "0" for rank in RANKS):
        yield folder
        return
    try:
        with opened(folder / LOCK, os.O_RDWR | os.O_CREAT) as descriptor:
            if not lock(descriptor):
                owner = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
                raise ConfigError(f"out={folder}: {owner} works in this folder; wait for it, or give another out=DIR")
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} of {platform.node()}\n".encode())
            _owned[place] = here, depth + 1
            try:
                yield folder
            finally:
                _owned.pop(place, None)
    except PermissionError as error:
        if error.filename != str(folder / LOCK):
            raise
        raise ConfigError(f"out={folder}: the folder may not be written to; give another out=DIR") from None


def made(folder: str | Path) -> Path:
    """The folder, created if it is missing.

    Raises:
        ConfigError: If it cannot be created, or the path is a file.
        OSError: If the disk is full.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ConfigError(f"out={folder}: expected a folder, found a file; give another out=DIR") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ConfigError(f"out={folder}: the folder cannot be made ({error.strerror}); give another out=DIR") from None
    return folder


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Lock an existing file or folder inside the block, so that :func:`sweep` leaves it alone."""
    with opened(path) as descriptor:
        lock(descriptor)
        yield


def sweep(folder: Path, pattern: str = f"{DRAFT}*") -> None:
    """Remove the unfinished files and folders that killed processes left behind."""
    for path in folder.glob(pattern):
        with suppress(OSError), opened(path) as descriptor:  # another process may have removed it already
            if lock(descriptor):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
