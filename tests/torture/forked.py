"""A command of geo3d in a forked process: imports are paid once, and it may be killed at any moment."""

import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

PREFIX = "geo3d: error: "
Call = Callable[[], int]


class Ended(NamedTuple):
    """How a process ended: its exit status (negative: the signal), and what it wrote on both streams."""

    status: int
    out: str
    err: str

    @property
    def one_line(self) -> bool:
        """Whether it was refused as it should be: status 2, and one line that says why."""
        said = [line for line in self.err.splitlines() if line.startswith(PREFIX)]
        return self.status == 2 and len(said) == 1 and "Traceback" not in self.err


class Child:
    """A function that runs in a process of its own, in the folder ``cwd``, for so many seconds of the processor."""

    def __init__(self, function: Call, cwd: Path, seconds: float = 120.0) -> None:
        self.streams = [tempfile.TemporaryFile(), tempfile.TemporaryFile()]  # noqa: SIM115
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        status = 99
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 1, resource.RLIM_INFINITY))
            os.chdir(cwd)
            for stream, target in zip(self.streams, (1, 2), strict=True):
                os.dup2(stream.fileno(), target)
            status = function()
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def poll(self) -> bool:
        """Whether it has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status is not None

    def send(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if not self.poll():
            os.kill(self.pid, number)

    def stopped(self, seconds: float) -> bool:
        """Whether it stops itself (SIGSTOP) in that time; False if it ends before."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid and os.WIFSTOPPED(status):
                return True
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                return False
            time.sleep(0.002)
        return False

    def ended(self, seconds: float = 600.0) -> Ended:
        """How it ended; SIGXCPU tells that it took too long, by the processor's clock or, here, by the wall's."""
        end = time.monotonic() + seconds
        while not self.poll():
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGXCPU)
                end = float("inf")
            time.sleep(0.002)
        texts = []
        for stream in self.streams:
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
            stream.close()
        assert self.status is not None
        return Ended(self.status, *texts)


def command(words: Sequence[str], before: Callable[[], None] = lambda: None) -> Call:
    """What runs ``geo3d WORDS`` in this process, after ``before`` has been called."""

    def call() -> int:
        from geo3d.cli.__main__ import main

        before()
        return main(list(words))

    return call


def ran(words: Sequence[str], cwd: Path, seconds: float = 120.0) -> Ended:
    """How ``geo3d WORDS`` ended in the folder ``cwd``, within so many seconds of the processor."""
    return Child(command(words), cwd, seconds).ended()
