"""Files and folders with one owner at a time, by the operating system's locks, which end with their process."""

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
"""How the names of unfinished files and folders begin."""
RANKS = ("LOCAL_RANK", "RANK", "NODE_RANK")
"""Where processes that train together find their numbers; the first one, of number 0, owns their folder."""

_owned: dict[Path, tuple[int, int]] = {}  # folder -> thread, depth of nested blocks
_open: set[int] = set()


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor of a file or folder for locking; forked processes do not get it, so the lock ends with this one."""
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
    """Whether an open file or folder could be locked; False if another process has it.

    Where the file system knows no locks everybody gets one.
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
    """The folder, which belongs to this thread inside the block; it is made if it is not there.

    Blocks of one thread may be nested. Of processes that train together the first one owns the folder for all.

    Raises:
        ConfigError: If another process or thread owns it, or no folder can be made there.
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
    """The folder, made if it is not there.

    Raises:
        ConfigError: If that is not possible, or a file is there.
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
    """Inside the block an existing file or folder is marked as in use, so that :func:`sweep` leaves it alone."""
    with opened(path) as descriptor:
        lock(descriptor)
        yield


def sweep(folder: Path, pattern: str = f"{DRAFT}*") -> None:
    """Remove the unfinished files and folders that processes left when they were killed."""
    for path in folder.glob(pattern):
        with suppress(OSError), opened(path) as descriptor:  # gone already, if another process is as quick
            if lock(descriptor):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
