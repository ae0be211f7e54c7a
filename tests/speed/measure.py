"""Measure a case: times, ratios if the outputs are equal, memory, fraction of the machine's limit, stages."""

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

import torch

from geo3d.bench.case import Case, Check, Make
from geo3d.bench.memory import peak_bytes
from geo3d.bench.stages import stages
from geo3d.bench.timing import SHORTEST, interleaved, ratio

Record = dict[str, Any]


def measure(
    make: Make,
    repeats: int = 7,
    gflops: float | None = None,
    memory: bool = True,
    profiled: bool = True,
    shortest: float = SHORTEST,
) -> Record:
    """The record of one case, ready for JSON: title, reference, notes and one row per contender.

    A contender whose outputs differ has no ratio.

    Args:
        make: Makes the case.
        repeats: Timed rounds.
        gflops: Limit of the machine, with which a contender's arithmetic is compared.
        memory: Whether to run each contender in a separate process to measure its peak memory.
        profiled: Whether to measure the fraction of time of each kind of operation.
        shortest: Minimum seconds of a sample.
    """
    case = make()
    checks = case.check()
    times = interleaved(case.calls, repeats, shortest)
    rows = []
    for name, call in case.calls.items():
        own = list(checks.get(name, []))
        seconds = median(times[name])
        equal = all(check.passed for check in own)
        work = case.flops.get(name)
        rows.append(
            {
                "name": name,
                "median_ms": 1e3 * seconds,
                "min_ms": 1e3 * min(times[name]),
                "ratio": ratio(times[case.reference], times[name]) if equal else None,
                "compared": bool(own) or name == case.reference,
                "equal": equal,
                "checks": [check._asdict() for check in own],
                "clouds_per_second": case.clouds / seconds,
                "gflops": None if work is None else 1e-9 * work / seconds,
                "share_of_limit": None if work is None or gflops is None else 1e-9 * work / seconds / gflops,
                "peak_mb_per_cloud": _peak(make, name, case) if memory else None,
                "stages": stages(call) if profiled else {},
                "times_ms": [1e3 * time for time in times[name]],
            }
        )
    return {"title": case.title, "reference": case.reference, "notes": list(case.notes), "rows": rows}


def measure_all(makes: Iterable[Make], say: Callable[[Record], None], only: str = "", **keywords: Any) -> list[Record]:
    """The records of all cases whose titles contain ``only``; each is also passed to ``say`` when it is ready."""
    records = []
    for make in makes:
        if only and only.lower() not in make().title.lower():
            continue
        records.append(measure(make, **keywords))
        say(records[-1])
    return records


def _peak(make: Make, name: str, case: Case) -> float:
    return peak_bytes(make, name, torch.get_num_threads()) / case.clouds / 1e6


def largest_difference(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """The largest absolute difference between corresponding tensors.

    Example:
        >>> largest_difference([torch.ones(2)], [torch.tensor([1.0, 1.5])])
        0.5
    """
    return max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True))


def values(found: torch.Tensor, expected: torch.Tensor, rtol: float, what: str = "values") -> Check:
    """Check that values agree within ``rtol`` times the largest expected one."""
    return Check(what, largest_difference([found], [expected]), rtol * float(expected.abs().max()))
