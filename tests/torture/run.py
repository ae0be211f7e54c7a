"""Runs campaigns: python tests/torture/run.py [kills|files|commands|damage ...] [--large] [--seed N] [--only CASE]."""

import argparse
import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # a process that forks must have no threads, and results must not depend on them
os.environ["CUDA_VISIBLE_DEVICES"] = ""
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from campaign import Tally, judged  # noqa: E402

CAMPAIGNS = ("commands", "damage", "files", "kills")


def campaign(name: str, large: bool, seed: int, only: str | None, workers: int) -> bool:
    """Run one campaign and print its table; whether it found no fault."""
    module = import_module(name)
    begun = time.monotonic()
    tally = Tally(module.TITLE, f"python tests/torture/run.py {name}{' --large' * large} --seed {seed}")
    with tempfile.TemporaryDirectory(prefix="torture-") as scratch:
        os.environ["HOME"] = scratch
        cases = list(module.cases(large, seed, Path(scratch)))
        chosen = [case for case in cases if only is None or case.name == only or case.name.startswith(f"{only}/")]
        for case, verdict in judged(chosen, module.LIMITS, workers, getattr(module, "CHUNK", 1)):
            tally.add(case, verdict)
            if only is not None:
                print(f"{case.name}: {verdict.kind}: {verdict.note}")
    print(f"{tally.text()}\n  {time.monotonic() - begun:.0f} s\n", flush=True)
    return bool(chosen) and not tally.faults


def main() -> int:
    """0 if no campaign found a fault, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaigns", nargs="*", choices=[*CAMPAIGNS, []], default=list(CAMPAIGNS))
    parser.add_argument("--large", action="store_true", help="all cases, and not some of each")
    parser.add_argument("--seed", type=int, default=0, help="key of every draw")
    parser.add_argument("--only", help="one case, or one row of the table")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    given = parser.parse_args()
    found = [campaign(name, given.large, given.seed, given.only, given.workers) for name in given.campaigns]
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
