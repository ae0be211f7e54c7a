"""Wrong commands, made from the options of every command: each ends with status 2 and one line, and does nothing else.

Each is a command that works on tiny data, with one mistake: a value that the option does not take, an unknown name, a
``_target_`` where no object belongs, a path that leads nowhere, or options that exclude each other.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

from campaign import Case, Limits, Verdict, fault
from forked import Ended, ran
from kills import preload, world
from wrong_words import KINDS, PLAIN, WITNESS, Words

TITLE = "wrong commands"
LIMITS = Limits(seconds=400, megabytes=2048)
SECONDS = 20
LONGEST = 1500  # most characters of an error line
FEW = {"values": 30, "names": 15, "targets": 15, "paths": 12, "contradictions": 12, "tools": 10}
MANY = 1200  # most commands of each kind in the large form


def cases(large: bool, seed: int, scratch: Path) -> Iterator[Case]:
    """The right commands, and wrong ones made from them: up to ``MANY`` of each kind if large, otherwise a few."""
    preload()
    (scratch / "base").mkdir(parents=True)
    base = world(scratch / "base")
    (base / "home").mkdir()
    prepare(base)
    for name, words in PLAIN.items():
        if name != "demo":
            yield Case(f"right/{name}", partial(right, base, scratch / f"right-{name}", words))
    for kind, make in KINDS.items():
        candidates = list(enumerate(make(Random(f"{seed}/{kind}"))))
        number = min(len(candidates), MANY if large else FEW[kind])
        for i, words in Random(f"{seed}/chosen").sample(candidates, number):
            yield Case(f"{kind}/{i}", partial(wrong, base, scratch / f"{kind}-{i}", words))
            many = any(name in word for word in words for name in ("devices", "num_workers"))
            if i % (50 if large else 60) == 0 and not many:  # a separate process has no guard against many processes
                alone = partial(wrong, base, scratch / f"process-{kind}-{i}", words, process=True)
                yield Case(f"process/{kind} {i}", alone)


def prepare(base: Path) -> None:
    """Create files and folders that wrong paths lead to."""
    (base / "file").write_text("this is no run folder\n")
    (base / "empty.npz").write_bytes(b"")
    (base / "cloud.dat").write_text("0 0 0\n")
    (base / "words.xyz").write_text("these are words\n")
    (base / "hollow").mkdir()
    (base / "loop").symlink_to("loop")
    shutil.copytree(base / "tuned" / "encoder", base / "cut")
    (base / "cut" / "encoder.safetensors").write_bytes((base / "cut" / "encoder.safetensors").read_bytes()[:500])
    shutil.copytree(base / "tuned" / "encoder", base / "deep")
    (base / "deep" / "encoder.json").write_text("[" * 100_000)


class Place:
    """A folder with links to everything in ``base``, removed at the end of the block."""

    def __init__(self, base: Path, folder: Path) -> None:
        self.base, self.folder = base, folder

    def __enter__(self) -> Path:
        self.folder.mkdir()
        for each in self.base.iterdir():
            (self.folder / each.name).symlink_to(each)
        return self.folder

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def right(base: Path, folder: Path, words: Words) -> Verdict:
    """Check that the right command works, so that a wrong one can only be refused for its one mistake."""
    with Place(base, folder) as cwd:
        done = ran([*words, "out=out"], cwd)
    return Verdict("done") if done.status == 0 else fault("a right command refused", done.err[-200:])


def wrong(base: Path, folder: Path, words: Words, process: bool = False) -> Verdict:
    """Verdict on a wrong command, which must be refused in one line and must create nothing."""
    with Place(base, folder) as cwd:
        done = in_process(words, cwd) if process else ran(words, cwd, SECONDS)
        made = [each.name for each in cwd.iterdir() if each.name in (WITNESS, "~")]
    last = (done.err.strip().splitlines() or [""])[-1]
    told = " ".join([words[0], "...", *words[-3:]] if len(words) > 4 else words)
    told = told if len(told) < 160 else f"{told[:80]} ... {told[-60:]}"
    if made:
        return fault("something was done", f"{told}: made {made[0]}; status {done.status}")
    if done.status == 0:
        return fault("accepted", told)
    if done.status < 0:
        return fault("too slow" if done.status == -signal.SIGXCPU else f"died of {-done.status}", told)
    if done.status != 2:
        return fault(f"status {done.status}", f"{told}: {last}")
    if not done.one_line:
        return fault("not one line", f"{told}: {done.err[-300:]}")
    return fault("a very long line", told) if len(last) > LONGEST else Verdict("refused", note=last)


def in_process(words: Words, cwd: Path) -> Ended:
    """How the command ends in a separate Python process."""
    command = [sys.executable, "-m", "geo3d", *words]
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return Ended(-signal.SIGXCPU, "", "")
    return Ended(done.returncode, done.stdout, done.stderr)
