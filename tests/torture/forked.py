"""Runs a geo3d command in a forked process: imports happen once, and the process can be killed at any moment."""

import ctypes
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PREFIX = "geo3d: error: "
PR_SET_PDEATHSIG = 1
PROCESSES = 24
TOO_MANY = 98  # exit status of a command that starts more than PROCESSES processes, or another Python
Call = Callable[[], int]


class Ended(NamedTuple):
    """How a process ended: its exit status (negative for a signal), and what it wrote to stdout and stderr."""

    status: int
    out: str
    err: str

    @property
    def one_line(self) -> bool:
        """Whether the command was refused properly: with status 2 and exactly one error line."""
        said = [line for line in self.err.splitlines() if line.startswith(PREFIX)]
        return self.status == 2 and len(said) == 1 and "Traceback" not in self.err


def guard() -> None:
    """End this process if it starts too many processes or another Python, and when its parent dies.

    A wrong command that asks for a thousand devices or workers must not overload the machine.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    started = 0

    def audit(name: str, arguments: tuple) -> None:
        nonlocal started
        if name in ("os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "subprocess.Popen"):
            started += 1
            copies = name != "os.fork" and "python" in os.path.basename(str(arguments[0]))
            if copies or started > PROCESSES:
                os.write(2, b"Traceback: starts too many processes\n")
                os._exit(TOO_MANY)

    sys.addaudithook(audit)


class Child:
    """A function that runs in a forked process, in the folder ``cwd``, for at most ``seconds`` of CPU time."""

    def __init__(self, function: Call, cwd: Path, seconds: float = 120.0) -> None:
        self.streams = [tempfile.TemporaryFile(), tempfile.TemporaryFile()]  # noqa: SIM115
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        status = 99
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + seconds) + 1, resource.RLIM_INFINITY))
            os.setpgid(0, 0)
            guard()
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
        """Whether the process has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status is not None

    def send(self, number: int) -> None:
        """Send a signal to the process, if it still runs."""
        if not self.poll():
            os.kill(self.pid, number)

    def stopped(self, seconds: float) -> bool:
        """Whether the process stops itself (SIGSTOP) within that time; False if it ends first."""
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
        """How the process ended; SIGXCPU means that it took too long, in CPU time or in ``seconds`` of wall time."""
        end = time.monotonic() + seconds
        while not self.poll():
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGXCPU)
                end = float("inf")
            time.sleep(0.002)
        with suppress(OSError):  # end the processes that it has started, too
            os.killpg(self.pid, signal.SIGKILL)
        texts = []
        for stream in self.streams:
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
            stream.close()
        assert self.status is not None
        return Ended(self.status, *texts)


def command(words: Sequence[str], before: Callable[[], None] = lambda: None) -> Call:
    """A function that calls ``before`` and then runs ``geo3d WORDS`` in this process."""

    def call() -> int:
        from geo3d.cli.__main__ import main

        before()
        return main(list(words))

    return call


def ran(words: Sequence[str], cwd: Path, seconds: float = 120.0) -> Ended:
    """How ``geo3d WORDS`` ended in the folder ``cwd``, within ``seconds`` of CPU time."""
    return Child(command(words), cwd, seconds).ended()
