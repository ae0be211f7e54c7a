"""How long calls take on this machine, and which machine that is."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

import torch

import geo3d
from geo3d.machine import processor
from geo3d.ops import native

K = TypeVar("K", bound=Hashable)
Clock = Callable[[], float]


class Latency(NamedTuple):
    """Milliseconds of a call."""

    p50: float
    """Half of the calls take no longer."""
    p95: float
    """19 of 20 calls take no longer."""


def percentiles(seconds: Sequence[float]) -> Latency:
    """Median and 95th percentile in milliseconds: the smallest time that 50 or 95 % of the calls do not exceed.

    Example:
        >>> percentiles([0.001 * i for i in range(1, 101)])
        Latency(p50=50.0, p95=95.0)
    """
    times = sorted(seconds)
    return Latency(*(1000 * times[-(-len(times) * fraction // 100) - 1] for fraction in (50, 95)))


def latency(call: Callable[[], Any], repeats: int = 40, warmup: int = 3, clock: Clock = perf_counter) -> Latency:
    """Median and 95th percentile of ``repeats`` calls, after ``warmup`` calls that do not count."""
    return latency_table({"": call}, repeats, warmup, clock)[""]


def latency_table(
    calls: Mapping[K, Callable[[], Any]], repeats: int = 40, warmup: int = 3, clock: Clock = perf_counter
) -> dict[K, Latency]:
    """Median and 95th percentile of each of several calls, measured in turns so that disturbances affect all of them.

    Each round begins with another call. Garbage collection stays on, as it is in use.

    Args:
        calls: The calls by name.
        repeats: Number of rounds.
        warmup: Number of rounds before these, which do not count.
        clock: Returns the time in seconds.
    """
    times: dict[K, list[float]] = {name: [] for name in calls}
    for turn, name in in_turns(list(calls), range(-warmup, repeats)):
        start = clock()
        calls[name]()
        seconds = clock() - start
        if turn >= 0:
            times[name].append(seconds)
    return {name: percentiles(seconds) for name, seconds in times.items()}


def in_turns(names: Sequence[K], rounds: Iterable[int]) -> Iterator[tuple[int, K]]:
    """Round and name of each measurement: in every round all names, each round beginning with another one.

    Example:
        >>> list(in_turns("ab", range(2)))
        [(0, 'a'), (0, 'b'), (1, 'b'), (1, 'a')]
    """
    for turn in rounds:
        first = turn % len(names)
        yield from ((turn, name) for name in (*names[first:], *names[:first]))


def machine() -> dict[str, Any]:
    """What latencies depend on apart from the call: processor, number of threads, and libraries (JSON-able).

    Example:
        >>> sorted(machine())
        ['geo3d', 'kernels', 'processor', 'threads', 'torch']
    """
    return {
        "processor": processor()[0],
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "geo3d": geo3d.__version__,
        "kernels": f"{native.name() or 'none'} {native.fingerprint() or ''}".strip(),
    }
