"""Everything that a process does to files, counted, so that it can be disturbed at any of these moments."""

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
ASYNCHRONOUS = "tensorboard"  # written by a thread of its own: its events have no fixed place among the others


class Event(NamedTuple):
    """One change of a file: number from 0, kind (open, write, rename, mkdir, remove, rmdir) and path."""

    number: int
    kind: str
    path: str


class FileEvents:
    """Calls ``act(event)`` before everything that this process does to files below ``root``, once ``install`` ran.

    A rename and all else that has a path is seen by an audit hook, so nothing that Python code does escapes. A write
    is one of the operating system's, after buffering; ``act`` may return True there, and then half of the bytes are
    written before the process is killed. What the disk holds changes at no other moment: before an event is also after
    the one before it, and closing or ``fsync`` change nothing that a kill could show.
    """

    def __init__(self, root: Path, act: Callable[[Event], bool | None]) -> None:
        self.root, self.act, self.count = os.path.realpath(root) + os.sep, act, 0
        self.unsynced: set[tuple[int, int]] = set()
        self.careless: list[str] = []
        """Files that were renamed before ``fsync`` had put their bytes on the disk."""

    def install(self) -> None:
        """Begin to count, until the process ends."""
        self.open, self.fsync = builtins.open, os.fsync
        builtins.open = io.open = self._opened  # type: ignore[assignment]
        os.fsync = self._synced  # type: ignore[assignment]
        sys.addaudithook(self._audited)

    def happens(self, kind: str, path: str) -> bool:
        """Whether the process shall be killed amid the event that is about to happen."""
        if ASYNCHRONOUS in path.split(os.sep):
            return False
        event = Event(self.count, kind, path)
        self.count += 1
        return bool(self.act(event))

    def here(self, path: Any) -> str | None:
        """The whole path, if it lies below the root."""
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
    """Kills the process before the event of that number, or amid it if it is a write."""

    def act(event: Event) -> bool:
        if event.number == number and not amid:
            os.kill(os.getpid(), signal.SIGKILL)
        return event.number == number

    return act


def stopping(number: int) -> Callable[[Event], None]:
    """Stops the process before that event, until it is told to go on."""

    def act(event: Event) -> None:
        if event.number == number:
            os.kill(os.getpid(), signal.SIGSTOP)

    return act


def filling(number: int) -> Callable[[Event], None]:
    """A disk that is full from that event on: nothing can be made or written any more."""

    def act(event: Event) -> None:
        if event.number >= number and event.kind in ("open", "write", "mkdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), event.path)

    return act
