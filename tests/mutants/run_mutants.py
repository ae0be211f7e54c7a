"""Run the nearby tests on mutants of geo3d and say which of them nobody noticed.

    python tests/mutants/run_mutants.py --number 10 --seed 1                   # ten random mutants of every folder
    python tests/mutants/run_mutants.py --folders io cli --number 25 --seed 1
    python tests/mutants/run_mutants.py --written                              # those of written.txt, kernels included

A mutant is made in a copy of the checkout and runs in a process forked from this one, which has imported the libraries
already. Its tests are the mirrored one, those that import the file, those that import what imports it, and others
in their folders: eight files at most, until their time is used up. What survives is looked at once more, by five times
as many files in five times the time. A test that fails without a change notices nothing. Results are kept in
``--out``, so that a campaign that was ended goes on where it was.
"""

import argparse
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from mutants import Mutant, applied, compiles, mutants_of, read
from nearness import NEAR, Tree

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("geo3d", "tests", "configs", "datasets", "notebooks", ".ci", "pyproject.toml", "README.md", "Makefile")
LIBRARIES = (
    "pytest", "torch", "torch_geometric", "pytorch_lightning", "sklearn.svm", "hydra", "h5py",
    "scipy.spatial", "scipy.stats", "matplotlib.pyplot", "safetensors.torch",
)  # fmt: skip
KERNELS = "geo3d/ops/native"


OWN_COPY = "import sys; sys.meta_path[:] = [each for each in sys.meta_path if 'editable' not in type(each).__module__]"
"""What an editable installation puts in front of the path would find the checkout, not the copy."""


class Watch:
    """A plugin of pytest: remembers the first failure, and ends the session when its processor time is used up."""

    def __init__(self, budget: float, result: Path) -> None:
        self.budget, self.result = sum(os.times()[:4]) + budget, result

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Of one test."""
        if report.failed:
            self.result.write_text(f"killed {report.nodeid}")

    def pytest_collectreport(self, report: Any) -> None:
        """Of one file."""
        if report.failed:
            self.result.write_text(f"killed {report.nodeid}")

    def spent(self) -> bool:
        """Whether the time is used up."""
        return sum(os.times()[:4]) > self.budget

    def pytest_runtest_protocol(self, item: Any) -> None:
        """Before each test."""
        if self.spent():
            item.session.shouldstop = "the time is used up"


class Slot:
    """A copy of the checkout in which one process at a time runs tests."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.tree, self.build = folder / "tree", folder / "build"
        self.log, self.result = folder / "log.txt", folder / "result.txt"
        self.stamp, self.before = 1_000_000_000, ("", "")
        self.began = self.limit = 0.0
        self.tree.mkdir(parents=True)
        self.start_up = folder / "start_up"
        self.start_up.mkdir()
        (self.start_up / "sitecustomize.py").write_text(OWN_COPY)
        for name in COPIED:
            source = root / name
            if source.is_dir():
                shutil.copytree(source, self.tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
            elif source.exists():
                shutil.copy(source, self.tree / name)

    def change(self, mutant: Mutant) -> None:
        """Write the mutant's text."""
        self.before = mutant.path, (self.tree / mutant.path).read_text()
        self._write(mutant.path, mutant.text)

    def restore(self) -> None:
        """Write back what stood there."""
        self._write(*self.before)

    def _write(self, path: str, text: str) -> None:
        """Write a file; its time is one it never had, so that no compiled form of another text is taken for it."""
        self.stamp += 10
        (self.tree / path).write_text(text)
        if path.endswith(".py"):
            os.utime(self.tree / path, (self.stamp, self.stamp))

    def start(self, options: list[str], tests: list[str], package: str, budget: float, kernels: bool) -> int:
        """The id of a process that runs pytest on one file after another, the head of a group of its own."""
        self.result.write_text("timeout ")
        child = os.fork()
        if child:
            return child
        try:
            os.setsid()
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.chdir(self.tree)
            os.environ["PYTHONPATH"] = f"{self.start_up}{os.pathsep}{self.tree}"  # of what the tests start
            sys.path.insert(0, str(self.tree))
            exec(OWN_COPY)
            if kernels:
                self._compile()
            resource.setrlimit(resource.RLIMIT_CPU, (int(sum(os.times()[:2]) + 3 * budget), resource.RLIM_INFINITY))
            import pytest

            watch = Watch(budget, self.result)
            for test in tests:
                with suppress(SystemExit):
                    pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", *options, test], plugins=[watch])
                if watch.spent() or self.result.read_text() != "timeout ":
                    break
            where = getattr(sys.modules.get(package), "__file__", None)
            assert where is None or where.startswith(str(self.tree)), where
            if self.result.read_text() == "timeout ":
                self.result.write_text("survived ")
            sys.stdout.flush()
        except BaseException as error:
            self.result.write_text(f"broken {error!r}")
        finally:
            os._exit(0)

    def outcome(self) -> tuple[str, str]:
        """``killed``, ``survived``, ``timeout`` or ``broken``, and by what."""
        status, _, by = self.result.read_text().partition(" ")
        return status, by

    def _compile(self) -> None:
        rules = self.tree / KERNELS / "CMakeLists.txt"  # with a fingerprint of the sources every file would be compiled
        rules.write_text(rules.read_text().replace("${FINGERPRINT}", "mutant"))
        for words in (
            ["cmake", "-S", str(self.tree / KERNELS), "-B", str(self.build)],
            ["cmake", "--build", str(self.build)],
        ):
            subprocess.run(words, check=True)
        os.environ["GEO3D_NATIVE_FOLDER"] = str(self.build)


class Job:
    """A mutant, and what became of it."""

    def __init__(self, mutant: Mutant, tests: list[str]) -> None:
        self.mutant, self.tests = mutant, tests
        self.status, self.noticed, self.seconds = "", "", 0.0


class Campaign:
    """Runs mutants in slots and keeps in mind which tests fail without any change."""

    def __init__(self, slots: list[Slot], package: str, budget: float) -> None:
        self.free, self.package, self.budget = list(slots), package, budget
        self.green: set[str] = set()
        self.red: set[str] = set()

    def run(self, jobs: list[Job], done: Callable[[Job], None]) -> None:
        """Each job is given to ``done`` when it ended.

        What noticed a mutant is run on the unchanged copy, too, if it never was; a test that fails there notices
        nothing, and the mutant is run again without it.
        """
        waiting, running = list(reversed(jobs)), {}
        try:
            while waiting or running:
                while waiting and self.free:
                    job, slot = waiting.pop(), self.free.pop()
                    running[self._start(job, slot)] = job, slot
                time.sleep(0.02)
                for child, (job, slot) in list(running.items()):
                    if not self._ended(child, job, slot):
                        continue
                    del running[child]
                    job.status, job.noticed = slot.outcome()
                    if job.status == "killed" and not self._is_green(job.noticed, slot):
                        waiting.append(job)
                    else:
                        done(job)
                    self.free.append(slot)
        finally:
            for child in running:
                os.killpg(child, signal.SIGKILL)

    def _start(self, job: Job, slot: Slot) -> int:
        slot.change(job.mutant)
        extra = 0 if job.mutant.path.endswith(".py") else 1800
        slot.began, slot.limit = time.monotonic(), 10 * self.budget + extra
        left_out = [f"--deselect={test}" for test in sorted(self.red)]
        tests = [test for test in job.tests if test not in self.red]
        return slot.start(left_out, tests, self.package, self.budget, kernels=extra > 0)

    def _ended(self, child: int, job: Job, slot: Slot) -> bool:
        job.seconds = time.monotonic() - slot.began
        late = job.seconds > slot.limit
        if late:
            os.killpg(child, signal.SIGKILL)
        if os.waitpid(child, 0 if late else os.WNOHANG) == (0, 0):
            return False
        slot.restore()
        return True

    def _is_green(self, test: str, slot: Slot) -> bool:
        if test not in self.green | self.red:
            whole = [] if "::" in test else ["--collect-only"]  # a file that could not be imported
            os.waitpid(slot.start(whole, [test], self.package, 10 * self.budget, kernels=False), 0)
            status, _ = slot.outcome()
            (self.green if status == "survived" else self.red).add(test)
            if status != "survived":
                print(f"left out, as it fails without a change: {test}", flush=True)
        return test not in self.red


def folder_of(path: str) -> str:
    """The folder of the package a file is counted in; files beside it are counted alone."""
    parts = path.split("/")
    return parts[1].removesuffix(".py")


def chance(tree: Tree, folders: list[str] | None, number: int, seed: int) -> list[Mutant]:
    """``number`` random mutants of every folder: each time a file, a kind of change and one of these."""

    @cache
    def by_kind(path: str) -> dict[str, list[Mutant]]:
        kinds = defaultdict(list)
        for mutant in mutants_of(path, (tree.root / path).read_text()):
            kinds[mutant.kind].append(mutant)
        return kinds

    found = []
    by_folder = defaultdict(list)
    for path in tree.files:
        by_folder[folder_of(path)].append(path)
    for folder in folders or sorted(by_folder):
        draw = random.Random(f"{seed} {folder}")
        taken: list[Mutant] = []
        for _ in range(20 * number):
            if len(taken) == number:
                break
            kinds = by_kind(draw.choice(by_folder[folder]))
            if kinds:
                mutant = draw.choice(kinds[draw.choice(sorted(kinds))])
                if mutant not in taken and compiles(mutant):
                    taken.append(mutant)
        found += taken
    return found


def key_of(entry: dict[str, Any]) -> tuple[Any, ...]:
    """What tells a mutant from all others."""
    return tuple(entry[key] for key in ("path", "line", "kind", "new"))


def campaign(
    tree: Tree, mutants: list[tuple[Mutant, list[str]]], out: Path, workers: int = 1, budget: float = 60.0
) -> list[dict[str, Any]]:
    """What became of each mutant; adds a line of JSON to ``out`` for each.

    Args:
        tree: The checkout.
        mutants: Each with its tests, the nearest first.
        out: Mutants that have a line there are not run again.
        workers: Processes at a time.
        budget: Seconds of processor time for the tests of a mutant.
    """
    results = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    known = set(map(key_of, results))
    jobs = [Job(mutant, tests) for mutant, tests in mutants if key_of(mutant._asdict()) not in known]

    def done(job: Job) -> None:
        entry = {key: getattr(job.mutant, key) for key in ("path", "line", "kind", "old", "new")}
        entry |= {"status": job.status, "noticed": job.noticed, "seconds": round(job.seconds, 2), "tests": job.tests}
        results.append(entry)
        with out.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        if job.status != "killed":
            print(f"{job.status}: {job.mutant}", flush=True)

    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        slots = [Slot(tree.root, Path(folder) / str(i)) for i in range(workers)]
        Campaign(slots, tree.package, budget).run(jobs, done)
    return results


def looked_at_again(
    tree: Tree, results: list[dict[str, Any]], mutants: list[Mutant], out: Path, workers: int, budget: float
) -> list[dict[str, Any]]:
    """The results, those of survivors after more tests with more time."""
    survived = {key_of(entry) for entry in results if entry["status"] == "survived"}
    again = [(mutant, tree.near(mutant.path, 5 * NEAR)) for mutant in mutants if key_of(mutant._asdict()) in survived]
    second = {key_of(entry): entry for entry in campaign(tree, again, out, workers, 5 * budget)} if again else {}
    return [second.get(key_of(entry), entry) for entry in results]


def report(results: list[dict[str, Any]], equivalent: set[tuple[str, str, str]]) -> str:
    """A table: of each folder how many mutants were noticed; those that change nothing are not counted."""
    rows: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for entry in results:
        same = entry["status"] == "survived" and (entry["path"], entry["old"], entry["new"]) in equivalent
        for name in (folder_of(entry["path"]), "all"):
            rows[name]["equivalent" if same else entry["status"]] += 1
    lines = [f"{'folder':<14} {'killed':>7} {'timeout':>8} {'survived':>9} {'equivalent':>11} {'score':>7}"]
    for name in sorted(rows, key=lambda name: (name == "all", name)):
        row = rows[name]
        lost = row["survived"] + row["broken"]
        noticed = row["killed"] + row["timeout"]
        score = f"{noticed / (noticed + lost):.1%}" if noticed + lost else ""
        lines.append(f"{name:<14} {row['killed']:>7} {row['timeout']:>8} {lost:>9} {row['equivalent']:>11} {score:>7}")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=10, help="random mutants of each folder")
    parser.add_argument("--folders", nargs="*", help="of geo3d; all by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--written", action="store_true", help="the mutants of written.txt instead of random ones")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of processor time for a mutant")
    parser.add_argument("--out", type=Path, default=Path("runs/mutants.jsonl"))
    parser.add_argument("--libraries", nargs="*", default=LIBRARIES, help="imported once, before all tests")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in options.libraries:
        importlib.import_module(name)
    tree, here = Tree(ROOT), Path(__file__).parent
    if options.written:
        changes = [(change, (ROOT / change.path).read_text()) for change in read(here / "written.txt")]
        mutants = [(applied(change, source), change.tests or tree.near(change.path)) for change, source in changes]
    else:
        drawn = chance(tree, options.folders, options.number, options.seed)
        mutants = [(mutant, tree.near(mutant.path)) for mutant in drawn]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    results = campaign(tree, mutants, options.out, options.workers, options.budget)
    if not options.written:  # those have tests of their own
        second = options.out.with_name(f"{options.out.name}.again")
        drawn = [mutant for mutant, _ in mutants]
        results = looked_at_again(tree, results, drawn, second, options.workers, options.budget)
    same = {(change.path, change.old, change.new) for change in read(here / "equivalent.txt")}
    print(report(results, same))
    print(f"{len(mutants)} mutants in {(time.monotonic() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
