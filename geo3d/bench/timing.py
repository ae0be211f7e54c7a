"""Times of several contenders, measured in turn, so that disturbances of the machine affect all of them."""

import gc
from collections.abc import Callable, Hashable, Mapping
from math import ceil
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

from geo3d.deploy.timing import in_turns

K = TypeVar("K", bound=Hashable)
SHORTEST = 0.005
"""Minimum seconds of a sample; quicker calls are repeated within a sample."""


def interleaved(calls: Mapping[K, Callable[[], Any]], repeats: int, shortest: float = SHORTEST) -> dict[K, list[float]]:
    """Seconds of one call of each contender, in ``repeats`` rounds; each round begins with another contender.

    Before that, every contender is called twice: once to warm up, and once to estimate how long it takes.
    """
    inner = {}
    for name, call in calls.items():
        call()
        inner[name] = max(1, ceil(shortest / max(timed(call, 1), 1e-9)))
    times: dict[K, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    try:
        for _, name in in_turns(list(calls), range(repeats)):
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
    """How many times faster than the reference: the median ratio over rounds, in each of which both were timed.

    Example:
        >>> ratio([2.0, 4.0, 6.0], [1.0, 1.0, 2.0])
        3.0
    """
    return median(a / b for a, b in zip(reference, times, strict=True))
