"""Fractions of a contender's time by kind of operation."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.profiler import ProfilerActivity, profile

KINDS = {
    "neighbours": r"topk|sort|cdist|arg(max|min)|cumsum",
    "edges": r"_Gather|_Edge|index|gather|scatter|embedding|take|unique",
    "products": r"\b(mm|bmm|addmm|baddbmm|linear|matmul|dot)\b|conv",
    "norms and pools": r"norm|relu|max|min|mean|sum|pool|"
    r"add|sub|mul|div|lerp|sqrt|pow|where|threshold|::(gt|lt|eq|ne|neg)|_Norm|_Max",
    "copies": r"copy|cat|clone|contiguous|stack|repeat|fill|zero",
}
"""Kind -> pattern of the names of torch's operations; the first that matches counts."""
OWN = re.compile(r"geo3d(?:::|_)(\w+?)(?:_default)?(?:_?[Bb]ackward)?$")
"""Matches geo3d's operators, forward or backward, and captures their names."""


def kind_of(operation: str) -> str:
    """The kind of an operation; for geo3d's operators, which do several things in one, their names.

    Example:
        >>> [kind_of(name) for name in ("aten::addmm", "geo3d::knn", "aten::empty")]
        ['products', 'knn', 'other']
        >>> kind_of("geo3d::norm_pool_backward"), kind_of("GeneratedBackwardFor_geo3d_norm_pool_default")
        ('norm_pool', 'norm_pool')
    """
    if own := OWN.search(operation):
        return own[1]
    kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, operation)), None)
    return kind or "other"


def stages(call: Callable[[], Any]) -> dict[str, float]:
    """Fraction of the time of one call in each kind of operation, by torch's profiler.

    An operation counts with its self time, without the operations that it calls, so no time counts twice. Time in
    Python does not count.
    """
    with _silent(), profile(activities=[ProfilerActivity.CPU]) as recorded:
        call()
    spent: dict[str, float] = dict.fromkeys([*KINDS, "other"], 0.0)
    for event in recorded.key_averages():
        kind = kind_of(event.key)
        spent[kind] = spent.get(kind, 0.0) + event.self_cpu_time_total
    total = sum(spent.values()) or 1.0
    return {kind: time / total for kind, time in spent.items()}


@contextmanager
def _silent() -> Iterator[None]:
    """Hide what torch's profiler writes to the process's error stream when it starts and stops."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def written(shares: dict[str, float]) -> str:
    """The fractions in words, the largest first, without those below one percent.

    Example:
        >>> written({"products": 0.6, "edges": 0.396, "other": 0.004})
        'products 60 %, edges 40 %'
    """
    order = sorted(shares, key=shares.__getitem__, reverse=True)
    return ", ".join(f"{kind} {100 * shares[kind]:.0f} %" for kind in order if shares[kind] >= 0.01)
