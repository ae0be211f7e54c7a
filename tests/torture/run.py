"""Runs campaigns: python tests/torture/run.py [commands|damage|files|kills ...] [--large] [--seed N] [--only CASE].

Each prints a table of what came of its attacks, every kind of fault with examples, and how to repeat one of them. The
exit status is 1 if there was a fault.
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
"""Signals that asked for an end; the campaign then says how far it came."""


def campaign(name: str, large: bool, seed: int, only: str | None, workers: int) -> bool:
    """Run one campaign and print its table; whether it found no fault."""
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
    """0 if no campaign found a fault, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaigns", nargs="*", metavar="CAMPAIGN", help=f"of {', '.join(CAMPAIGNS)} (all)")
    parser.add_argument("--large", action="store_true", help="all cases, and not some of each kind")
    parser.add_argument("--seed", type=int, default=0, help="key of every draw")
    parser.add_argument("--only", help="one case, or one row of the table")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    given = parser.parse_args()
    if unknown := set(given.campaigns) - set(CAMPAIGNS):
        parser.error(f"no such campaign: {', '.join(unknown)}")
    # A process that forks must have no threads, and results must not depend on a GPU; before anything imports torch.
    os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    sys.path.insert(1, str(Path(__file__).parents[2]))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ENDED.append(_))  # an exception would be lost where a fork is being made
    names = given.campaigns or CAMPAIGNS
    found = [campaign(name, given.large, given.seed, given.only, given.workers) for name in names if not ENDED]
    return 143 if ENDED else 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
