"""Runs hundreds of attacks, each in a forked process, and tabulates their verdicts."""

import json
import os
import resource
import selectors
import signal
import traceback
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

SHOWN = 240  # characters of a note
EACH = 12  # most faults of one kind that are printed


class Verdict(NamedTuple):
    """The result of an attack: a word or two, whether it is a fault of geo3d, and a note on what was seen."""

    kind: str
    fault: bool = False
    note: str = ""


def fault(kind: str, note: str = "") -> Verdict:
    """A verdict that something is wrong."""
    return Verdict(kind, True, note)


class Case(NamedTuple):
    """One attack; the part of its name before the first slash is its row in the table."""

    name: str
    attack: Callable[[], Verdict]


@dataclass
class Limits:
    """Limits of an attack: seconds of CPU time, and megabytes of memory (None for no limit)."""

    seconds: float
    megabytes: int | None = None


@dataclass
class Tally:
    """Verdicts counted by row and kind, and every fault with the name of its case."""

    title: str
    again: str
    rows: dict[str, Counter] = field(default_factory=lambda: defaultdict(Counter))
    faults: list[tuple[str, Verdict]] = field(default_factory=list)

    @property
    def tried(self) -> int:
        """Number of attacks."""
        return sum(map(Counter.total, self.rows.values()))

    def add(self, case: Case, verdict: Verdict) -> None:
        """Count one verdict."""
        row = case.name.partition("/")[0]
        self.rows[row][("FAULT: " if verdict.fault else "") + verdict.kind] += 1
        if verdict.fault:
            self.faults.append((case.name, verdict))

    def text(self) -> str:
        """The table, then the first faults of each kind, and the command that repeats one of them."""
        kinds = sorted({kind for row in self.rows.values() for kind in row}, key=lambda kind: (":" in kind, kind))
        width = max([len(row) for row in self.rows] + [5]) + 2
        lines = [f"{self.title}: {self.tried} tried, {len(self.faults)} faults"]
        lines += [" " * width + "  ".join(["tried", *kinds])]
        total: Counter = Counter()
        for row in self.rows.values():
            total += row
        for name, row in [*sorted(self.rows.items()), ("all", total)]:
            cells = [f"{row.total():5}", *(f"{row[kind]:{len(kind)}}" for kind in kinds)]
            lines.append(f"{name:<{width}}" + "  ".join(cells))
        seen: Counter = Counter()
        for name, verdict in self.faults:
            seen[verdict.kind] += 1
            if seen[verdict.kind] <= EACH:
                lines += [f"  {verdict.kind}: {name}: {' '.join(verdict.note.split())[:SHOWN]}"]
        if self.faults:
            lines += [f"  one of them again: {self.again} --only '{self.faults[0][0]}'"]
        return "\n".join(lines)


def judged(cases: Sequence[Case], limits: Limits, workers: int = 2, chunk: int = 1) -> Iterator[tuple[Case, Verdict]]:
    """Every case with its verdict, in the order in which they finish; a case whose process dies is a fault.

    Args:
        cases: The attacks.
        limits: Limits of one case.
        workers: Processes at a time.
        chunk: Cases that one process runs one after another; 1 if a case may spoil the process for the next one.
    """
    waiting = deque(list(cases[i : i + chunk]) for i in range(0, len(cases), chunk))
    running = selectors.DefaultSelector()
    try:
        while waiting or running.get_map():
            while waiting and len(running.get_map()) < workers:
                todo = waiting.popleft()
                pid, pipe = _started(todo, limits)
                running.register(pipe, selectors.EVENT_READ, (pid, todo, bytearray()))
            for key, _ in running.select():
                pid, todo, said = key.data
                said += (piece := os.read(key.fd, 1 << 16))
                if piece:
                    continue
                running.unregister(key.fd)
                os.close(key.fd)
                _, status, usage = os.wait4(pid, 0)
                verdicts = [Verdict(*json.loads(line)) for line in said.splitlines()]
                yield from zip(todo, verdicts, strict=False)
                if len(verdicts) < len(todo):
                    yield todo[len(verdicts)], _died(os.waitstatus_to_exitcode(status), limits)
                    if rest := todo[len(verdicts) + 1 :]:
                        waiting.appendleft(rest)
    finally:
        for key in list(running.get_map().values()):  # processes still run if the campaign was stopped
            os.kill(key.data[0], signal.SIGKILL)
            os.waitpid(key.data[0], 0)
            os.close(key.fd)
        running.close()


def _started(cases: Iterable[Case], limits: Limits) -> tuple[int, int]:
    """Process id and pipe of a child that runs the cases."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        os.close(reading)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if limits.megabytes is not None:
            most = _mapped() + limits.megabytes * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        for case in cases:
            signal.signal(signal.SIGPROF, signal.SIG_DFL)  # the default action ends the process, even in compiled code
            signal.setitimer(signal.ITIMER_PROF, limits.seconds)
            try:
                verdict = case.attack()
            except Exception:
                verdict = fault("the attack itself failed", traceback.format_exc()[-SHOWN:])
            signal.setitimer(signal.ITIMER_PROF, 0)
            os.write(writing, json.dumps(verdict).encode() + b"\n")
    finally:
        os._exit(0)


def _mapped() -> int:
    """Bytes of address space that this process uses."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _died(code: int, limits: Limits) -> Verdict:
    if code == -signal.SIGPROF:
        return fault("too slow", f"more than {limits.seconds:g} s of the processor")
    return fault("died", signal.Signals(-code).name if code < 0 else f"status {code}")
