"""Counts every change that a process makes to files, so that a test can disturb the process at any of them."""

import builtins
import errno
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

CHANGING = {"os.rename": "rename", "os.mkdir": "mkdir", "os.remove": "remove", "os.rmdir": "rmdir"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ASYNCHRONOUS = "tensorboard"  # another thread writes these files, so their events come in no fixed order


class Event(NamedTuple):
    """One change of a file: its number from 0, its kind (open, write, rename, mkdir, remove or rmdir) and the path."""

    number: int
    kind: str
    path: str


class FileEvents:
    """Calls ``act(event)`` before every change that this process makes to files below ``root``, after ``install``.

    An audit hook sees renames and all other events with a path, so no Python code escapes it. A write event is a write
    of the operating system, after buffering. If ``act`` returns True for a write, half of the bytes are written and the
    process is killed. The content of the disk changes at no other moment, so the time before an event is also the time
    after the previous one; closing a file and ``fsync`` change nothing that a kill could show.
    """

    def __init__(self, root: Path, act: Callable[[Event], bool | None]) -> None:
        self.root, self.act, self.count = os.path.realpath(root) + os.sep, act, 0
        self.unsynced: set[tuple[int, int]] = set()
        self.careless: list[str] = []
        """Files that were renamed before ``fsync`` had put their bytes on the disk."""

    def install(self) -> None:
        """Count from now on until the process ends."""
        self.open, self.fsync = builtins.open, os.fsync
        builtins.open = io.open = self._opened  # type: ignore[assignment]
        os.fsync = self._synced  # type: ignore[assignment]
        sys.addaudithook(self._audited)

    def happens(self, kind: str, path: str) -> bool:
        """Whether to kill the process in the middle of the event that is about to happen."""
        if ASYNCHRONOUS in path.split(os.sep):
            return False
        event = Event(self.count, kind, path)
        self.count += 1
        return bool(self.act(event))

    def here(self, path: Any) -> str | None:
        """The absolute path if it lies below the root, else None."""
        try:
            if isinstance(path, int):
                path = os.readlink(f"/proc/self/fd/{path}")
            whole = os.path.abspath(os.fsdecode(path))
        except (OSError, TypeError, ValueError):
            return None
        return whole if whole.startswith(self.root) else None

    def _audited(self, name: str, arguments: tuple) -> None:
        if name == "open":
            path, _, flags = arguments
            if flags & WRITING and not isinstance(path, int) and (whole := self.here(path)):
                self.happens("open", whole)
        elif name in CHANGING and (whole := self.here(arguments[0])):
            if name == "os.rename":
                self._renamed(whole)
            self.happens(CHANGING[name], whole)

    def _renamed(self, path: str) -> None:
        files = [path] if os.path.isfile(path) else [os.path.join(a, c) for a, _, names in os.walk(path) for c in names]
        for file in files:
            if _inode(os.stat(file)) in self.unsynced:
                self.careless.append(re.sub(r"\.[0-9a-f]{12}", "", os.path.relpath(path, self.root)))

    def _synced(self, fd: Any) -> None:
        self.unsynced.discard(_inode(os.fstat(fd if isinstance(fd, int) else fd.fileno())))
        self.fsync(fd)

    def _opened(self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **keywords: Any) -> Any:
        path = self.here(file) if set(mode) & set("wax+") else None
        if path is None:
            return self.open(file, mode, buffering, *rest, **keywords)
        names = ("encoding", "errors", "newline", "closefd", "opener")
        given = dict(zip(names, rest, strict=False)) | keywords
        raw = _Raw(file, mode.replace("b", "").replace("t", ""), given.get("closefd", True), given.get("opener"))
        raw.events, raw.path = self, path
        if "b" in mode and buffering == 0:
            return raw
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        buffered = io.BufferedRandom(raw, size) if "+" in mode else io.BufferedWriter(raw, size)
        if "b" in mode:
            return buffered
        text = io.TextIOWrapper(buffered, *(given.get(name) for name in names[:3]), line_buffering=buffering == 1)
        text.mode = mode  # type: ignore[misc]
        return text


class _Raw(io.FileIO):
    events: FileEvents
    path: str

    def write(self, data: Any) -> int:
        amid = self.events.happens("write", self.path)
        self.events.unsynced.add(_inode(os.fstat(self.fileno())))
        if amid:
            super().write(bytes(data)[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(data)


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def killing(number: int, amid: bool = False) -> Callable[[Event], bool]:
    """An ``act`` that kills the process before event ``number``, or with ``amid`` in the middle of it (a write)."""

    def act(event: Event) -> bool:
        if event.number == number and not amid:
            os.kill(os.getpid(), signal.SIGKILL)
        return event.number == number

    return act


def stopping(number: int) -> Callable[[Event], None]:
    """An ``act`` that stops the process (SIGSTOP) before event ``number`` until it gets SIGCONT."""

    def act(event: Event) -> None:
        if event.number == number:
            os.kill(os.getpid(), signal.SIGSTOP)

    return act


def filling(number: int) -> Callable[[Event], None]:
    """An ``act`` that simulates a full disk from event ``number`` on: nothing can be created or written any more."""

    def act(event: Event) -> None:
        if event.number >= number and event.kind in ("open", "write", "mkdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), event.path)

    return act
