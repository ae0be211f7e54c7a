"""Times of several contenders, taken in turn so that whatever disturbs the machine disturbs them all."""

import gc
from collections.abc import Callable, Hashable, Mapping
from math import ceil
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

K = TypeVar("K", bound=Hashable)
SHORTEST = 0.005
"""Seconds that a sample lasts at least; quicker calls are made several times in a row."""


def interleaved(calls: Mapping[K, Callable[[], Any]], repeats: int, shortest: float = SHORTEST) -> dict[K, list[float]]:
    """Seconds of one call of each contender, ``repeats`` samples each, in rounds that begin with another one each time.

    Every contender is called twice before: once for what happens only once, and once to see how long it takes.
    """
    inner = {}
    for name, call in calls.items():
        call()
        inner[name] = max(1, ceil(shortest / max(timed(call, 1), 1e-9)))
    names = list(calls)
    times: dict[K, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for turn in range(repeats):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                times[name].append(timed(calls[name], inner[name]))
    finally:
        gc.enable()
    return times


def timed(call: Callable[[], Any], count: int) -> float:
    """Mean seconds of ``count`` calls."""
    start = perf_counter()
    for _ in range(count):
        call()
    return (perf_counter() - start) / count


def ratio(reference: list[float], times: list[float]) -> float:
    """How many times faster than the reference: the median over the rounds, in which both were timed side by side.

    Example:
        >>> ratio([2.0, 4.0, 6.0], [1.0, 1.0, 2.0])
        3.0
    """
    return median(a / b for a, b in zip(reference, times, strict=True))
