"""Runs campaigns: python tests/torture/run.py [commands|damage|files|kills ...] [--large] [--seed N] [--only CASE].

Each campaign prints a table of its verdicts, examples of every kind of fault, and the command that repeats one of them.
The exit status is 1 if there was a fault.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from contextlib import closing
from importlib import import_module
from pathlib import Path

from campaign import Tally, judged

CAMPAIGNS = ("commands", "damage", "files", "kills")
ENDED: list[object] = []
"""Signals that asked the campaign to end; it then prints how many cases were not tried."""


def campaign(name: str, large: bool, seed: int, only: str | None, workers: int) -> bool:
    """Whether a campaign tried all its cases and found no fault, after it has run and printed its table."""
    module = import_module(name)
    begun = time.monotonic()
    tally = Tally(module.TITLE, f"python tests/torture/run.py {name}{' --large' * large} --seed {seed}")
    with tempfile.TemporaryDirectory(prefix="torture-") as scratch:
        os.environ["HOME"] = scratch
        cases = list(module.cases(large, seed, Path(scratch)))
        chosen = [case for case in cases if only is None or case.name == only or case.name.startswith(f"{only}/")]
        with closing(judged(chosen, module.LIMITS, workers, getattr(module, "CHUNK", 1))) as verdicts:
            for case, verdict in verdicts:
                tally.add(case, verdict)
                if verdict.fault or only is not None:
                    print(f"{case.name}: {verdict.kind}: {verdict.note}", flush=True)
                if ENDED:
                    break
    left = len(chosen) - tally.tried
    ended = f", ended with {left} not tried" if left else ""
    print(f"{tally.text()}\n  {time.monotonic() - begun:.0f} s{ended}\n", flush=True)
    return bool(chosen) and not tally.faults and not left


def main() -> int:
    """The exit status: 0 if no campaign found a fault, 143 if a signal ended it, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaigns", nargs="*", metavar="CAMPAIGN", help=f"some of {', '.join(CAMPAIGNS)} (all)")
    parser.add_argument("--large", action="store_true", help="run all cases, not only some of each kind")
    parser.add_argument("--seed", type=int, default=0, help="key of every random draw")
    parser.add_argument("--only", help="one case, or one row of the table")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    options = parser.parse_args()
    if unknown := set(options.campaigns) - set(CAMPAIGNS):
        parser.error(f"no such campaign: {', '.join(unknown)}")
    # Set before torch is imported: a process that forks must have no threads, and results must not depend on a GPU.
    os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    sys.path.insert(1, str(Path(__file__).parents[2]))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ENDED.append(_))  # an exception could get lost during a fork
    names = options.campaigns or CAMPAIGNS
    passed = [campaign(name, options.large, options.seed, options.only, options.workers) for name in names if not ENDED]
    return 143 if ENDED else 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
