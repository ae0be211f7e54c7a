"""Disturbs every job at file events and at random moments, and then runs it again to the end.

An interrupted run must continue: the second run ends with status 0 and the same bits as an undisturbed run, and leaves
no other files than that. A full disk ends a job with one line and status 2. A second process in the same run folder
gets one line.
"""

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from campaign import Case, Limits, Verdict, fault
from file_events import FileEvents, filling, killing, stopping
from forked import Child, Ended, command, ran
from run_results import difference, results

TITLE = "kills"
LIMITS = Limits(seconds=400)
DATA = ["data=folder", "data.root=clouds", "data.num_points=16", "data.batch_size=6"]
CPU = ["trainer=cpu", "trainer.progress=false"]
TINY = ["encoder=dgcnn", "encoder.k=4", "encoder.channels=[8,8]", "encoder.embedding=8", "encoder.dynamic=false"]
PRETRAIN = ["pretrain", *TINY, "projector=[8,8]", *DATA, *CPU, "trainer.max_epochs=2", "data.holdout=0.3"]
FINETUNE = ["finetune", *DATA, *CPU, "trainer.max_epochs=2"]
COMPRESS = ["compress", *DATA, *CPU, "trainer.max_epochs=2", "shaping_steps=4", "draws=2"]
REGULAR = ["recipe=w4a4_structured", "recipe.structure.regularize=1.0", "recipe.structure.min_channels=8"]
FITTED = ["recipe=structured2", *REGULAR[1:]]
SOFT = ["recipe=pruned2", "recipe.prune.shrink_output=true"]
WIDTHS = ["recipe=adaptive", "recipe.adapt.widths=[0.5,1]", "recipe.adapt.ks=[2,4]", "recipe.adapt.points=[8,16]"]
RUNS = "runs={soft: {prune: {kept: 0.5}, quantize: {weights: 4}}, bits: {quantize: {weights: 8}, steps: 2}}"
PRELOADED = ["geo3d.jobs", "geo3d.cli.build", "geo3d.cli.check", "hydra", "yaml", "h5py", "matplotlib.pyplot"]
PRELOADED += ["pytorch_lightning", "sklearn.svm", "tensorboard.summary", "torch.utils.tensorboard"]
JOBS = {
    "pretrain": [*PRETRAIN, "average=0.9", "objective=byol"],
    "pretrain-recipe": [*PRETRAIN, *SOFT],
    "finetune": [*FINETUNE, "checkpoint=pre/encoder"],
    "finetune-recipe": [*FINETUNE, "checkpoint=pre/encoder", "from_scratch=true", *FITTED],
    "probe": ["probe", "checkpoint=pre/encoder", *DATA, "protocol=crosspoint", "seeds=2", "shots=2", "draws=2"],
    "ceiling": [
        "probe", "checkpoint=pre/encoder", *DATA, "protocol=crosspoint", "seeds=1", "shots=0", "ceiling=true",
        "trainer={accelerator: cpu, progress: false}",
    ],
    "compress-structure": [*COMPRESS, "checkpoint=tuned/encoder", "labels=1.0", *REGULAR],
    "compress-prune": [*COMPRESS, "checkpoint=tuned/encoder", *SOFT],
    "compress-quantize": [*COMPRESS, "checkpoint=pre/encoder", "recipe=w4a8"],
    "compress-adapt": [*COMPRESS, "checkpoint=tuned/encoder", *WIDTHS],
    "sweep": [
        "sweep", "experiment=null", *DATA, *CPU, "trainer.max_epochs=1", "shaping_steps=2", "draws=1",
        "checkpoints.tiny=tuned/encoder", RUNS,
    ],
    "embed": ["embed", "checkpoint=pre/encoder", *DATA],
    "embed-file": ["embed", "cloud=clouds/test/ball/0.npz", "checkpoint=pre/encoder"],
}  # fmt: skip
DEMO = {"demo": ["demo", "size=256", "epochs=1", "num_points=24", "progress=false"]}


def world(folder: Path) -> Path:
    """A folder with clouds of three classes, an encoder that was pretrained on them and one that was fine-tuned."""
    draw = np.random.default_rng(0)
    for split, number in (("train", 6), ("test", 3)):
        for name, extent in (("ball", (1, 1, 1)), ("plate", (1, 1, 0.1)), ("rod", (1, 0.1, 0.1))):
            (folder / "clouds" / split / name).mkdir(parents=True)
            for i in range(number):
                pos = (draw.normal(size=(24, 3)) * extent).astype("f4")
                np.savez(folder / "clouds" / split / name / f"{i}.npz", pos=pos)
    for words in ([*PRETRAIN, "out=pre"], [*FINETUNE, "checkpoint=pre/encoder", "out=tuned"]):
        assert (done := ran(words, folder)).status == 0, done.err
    return folder


class Job:
    """A command, the world that it runs in, and the results of an undisturbed run."""

    def __init__(self, name: str, words: list[str], base: Path, scratch: Path) -> None:
        self.name, self.words, self.base, self.scratch = name, [*words, "out=out"], base, scratch
        self.events: list[tuple[str, str]] = []
        self.careless: list[str] = []
        with self.folder("whole") as folder:
            begun = time.monotonic()
            done = Child(lambda: self._recorded(folder), folder).ended()
            self.seconds = time.monotonic() - begun
            assert done.status == 0, f"{name}: {done.err}"
            self.events, self.careless = json.loads(done.out.splitlines()[-1])
            self.expected = results(folder)

    def folder(self, case: str) -> Any:
        """A copy of the world for one case, removed afterwards."""
        return _Copy(self.base, self.scratch / f"{self.name}-{case}")

    def _recorded(self, folder: Path) -> int:
        """Run the command; then print all file events, and the files that were renamed without ``fsync``."""
        seen: list[tuple[str, str]] = []
        events = FileEvents(folder, lambda event: seen.append((event.kind, os.path.relpath(event.path, folder))))
        status = command(self.words, events.install)()
        print(f"\n{json.dumps([seen, sorted(set(events.careless))])}")
        return status

    def again(self, folder: Path, what: str, first: Ended) -> Verdict:
        """Verdict after the command has been run again and compared with the undisturbed run."""
        done = ran(self.words, folder)
        last = (done.err.strip().splitlines() or [""])[-1]
        if done.status == 2:
            return fault("cannot be continued", f"{what}; {last}")
        if done.status != 0 or "Traceback" in done.err:
            return fault(f"status {done.status}", f"{what}; {last}")
        other = difference(self.expected, results(folder))
        kind = "left behind" if other.startswith("left behind") else "other results"
        return fault(kind, f"{what}; {other}") if other else Verdict("equal")

    def killed_at(self, number: int, amid: bool = False) -> Verdict:
        """The job is killed before a file event, or in the middle of it, and then run again."""
        kind, path = self.events[number] if number < len(self.events) else ("end", "")
        with self.folder(f"{number}{'-amid' * amid}") as folder:
            events = FileEvents(folder, killing(number, amid))
            first = Child(command(self.words, events.install), folder).ended()
            what = f"killed {'amid' if amid else 'before'} {kind} {path}"
            if first.status not in (-signal.SIGKILL, 0):
                return fault(f"status {first.status} under the hooks", f"{what}; {first.err[-150:]}")
            return self.again(folder, what, first)

    def killed_often(self, numbers: list[int]) -> Verdict:
        """The job is killed before a file event and run again, several times."""
        with self.folder("often" + "-".join(map(str, numbers))) as folder:
            for number in numbers:
                first = Child(command(self.words, FileEvents(folder, killing(number)).install), folder).ended()
            return self.again(folder, f"killed before the events {numbers}", first)

    def signalled(self, number: int, share: float) -> Verdict:
        """The job gets a signal after a fraction ``share`` of its time, and is run again."""
        name = signal.Signals(number).name
        with self.folder(f"{name}-{share:.6f}") as folder:
            child = Child(command(self.words), folder)
            time.sleep(share * self.seconds)
            child.send(number)
            first = child.ended()
            what = f"{name} after {share:.3f} of its time"
            ours = "Traceback" in first.err and "Exception ignored" not in first.err  # Python itself prints the latter
            if first.status not in (0, -number, 130, 143) or ours:
                return fault(f"status {first.status} after {name}", f"{what}; {first.err[-150:]}")
            return self.again(folder, what, first)

    def full(self, number: int) -> Verdict:
        """The disk is full from a file event on; then there is space again, and the job is run again."""
        kind, path = self.events[number]
        with self.folder(f"full-{number}") as folder:
            first = Child(command(self.words, FileEvents(folder, filling(number)).install), folder).ended()
            what = f"disk full from {kind} {path}"
            if first.status != 0 and not (first.one_line and re.search("disk is full|No space left", first.err)):
                last = (first.err.strip().splitlines() or [""])[-1]
                return fault(f"status {first.status} on a full disk", f"{what}; {last}")
            return self.again(folder, what, first)

    def doubled(self, number: int) -> Verdict:
        """The job is stopped before a file event, a second process runs the same command, and the first continues."""
        kind, path = self.events[number]
        with self.folder(f"doubled-{number}") as folder:
            child = Child(command(self.words, FileEvents(folder, stopping(number)).install), folder)
            stopped = child.stopped(60)
            owned = stopped and training(folder / "out")
            second = ran(self.words, folder)
            child.send(signal.SIGCONT)
            first = child.ended()
            what = f"two processes, the first before {kind} {path}"
            for which, done in (("first", first), ("second", second)):
                if done.status != 0 and not done.one_line:
                    last = (done.err.strip().splitlines() or [""])[-1]
                    return fault(f"status {done.status} of two", f"{what}; the {which}: {last}")
            if owned and second.status == 0:
                return fault("both train in one folder", what)
            if first.status == second.status == 2:
                return fault("both refused", f"{what}; {first.err.strip()}")
            return self.again(folder, what, first)

    def threaded(self) -> Verdict:
        """The job runs in a thread that is not the main thread."""
        call = command(self.words)

        def in_thread() -> int:
            status = []
            thread = threading.Thread(target=lambda: status.append(call()))
            thread.start()
            thread.join()
            return status[0]

        with self.folder("thread") as folder:
            done = Child(in_thread, folder).ended()
            if done.status != 0:
                return fault(f"status {done.status} in a thread", (done.err.strip().splitlines() or [""])[-1])
            other = difference(self.expected, results(folder))
            return fault("other results", other) if other else Verdict("equal")

    def synced(self) -> Verdict:
        """Check that every file was on the disk (``fsync``) before it was renamed."""
        if self.careless:
            return fault("renamed before fsync", ", ".join(self.careless[:4]))
        return Verdict("synced")


def training(out: Path) -> bool:
    """Whether training in the run folder has begun and not finished."""
    begun = any(out.rglob("*.ckpt*")) or any(out.rglob(".*.ckpt*"))
    return begun and not (out / "metrics.json").exists()


class _Copy:
    def __init__(self, base: Path, folder: Path) -> None:
        self.base, self.path = base, folder

    def __enter__(self) -> Path:
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.copytree(self.base, self.path)
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def preload() -> None:
    """Import the modules that commands use, so that the forked processes need not import them."""
    for name in PRELOADED:
        import_module(name)


def cases(large: bool, seed: int, scratch: Path) -> Iterator[Case]:
    """All attacks on all jobs; the small form takes some of each job."""
    preload()
    (scratch / "base").mkdir(parents=True)
    base = world(scratch / "base")
    for name, words in (JOBS | (DEMO if large else {})).items():
        job = Job(name, words, base, scratch)
        yield from job_cases(job, large, Random(f"{seed}/{name}"))


def job_cases(job: Job, large: bool, draw: Random) -> Iterator[Case]:
    """The attacks on one job; only some in the small form, and for jobs of more than 5 seconds."""
    writes = [i for i, (kind, _) in enumerate(job.events) if kind == "write"]
    every, disks = list(range(len(job.events) + 1)), list(range(len(job.events)))
    signals = [("SIGKILL", 12), ("SIGTERM", 8), ("SIGINT", 8), ("two", 8), ("often", 8), ("full", len(disks) // 4)]
    if not large or job.seconds > 5:
        every, writes = draw.sample(every, 6 if large else 1), draw.sample(writes, 2 if large else 1)
        signals = [(name, 2) for name, _ in signals] if large else [(name, 1) for name, _ in draw.sample(signals, 1)]
    yield Case(f"{job.name}/synced", job.synced)
    for i in every:
        yield Case(f"{job.name}/event {i}", lambda i=i: job.killed_at(i))
    for i in writes[::2] if large else writes:
        yield Case(f"{job.name}/amid {i}", lambda i=i: job.killed_at(i, amid=True))
    for name, number in signals:
        for i in range(number):
            events = sorted(draw.sample(disks, 3))
            yield Case(f"{job.name}/{name} {i}", partial(disturbed, job, name, events, draw.random()))
    if large or job.name in ("pretrain", "finetune-recipe", "compress-prune"):
        yield Case(f"{job.name}/thread", job.threaded)


def disturbed(job: Job, name: str, events: list[int], share: float) -> Verdict:
    """Verdict on the attack of that name at these events, or after this fraction of the job's time."""
    if name == "two":
        return job.doubled(events[0])
    if name == "often":
        return job.killed_often(events)
    return job.full(events[0]) if name == "full" else job.signalled(getattr(signal, name), share)
