"""Which form of each layer is the fastest on this machine: found out by running them."""

from collections.abc import Mapping
from time import perf_counter
from typing import NamedTuple

import torch

from geo3d.deploy.program.lower import Lowered
from geo3d.deploy.program.plan import Plan, Store, forms

REPEATS = 15
"""Times that each form is run, in turns, of which the fastest counts: what disturbs a run only makes it slower."""


class KernelChoice(NamedTuple):
    """How a layer is computed, and what was measured."""

    form: str
    """``float``, ``int8`` or ``dense``, see :func:`geo3d.deploy.program.plan.forms`."""
    ms: dict[str, float]
    """Milliseconds of each form, the search for neighbours left out; empty where there was nothing to choose."""


def available(lowered: Lowered) -> dict[str, tuple[str, ...]]:
    """The forms of each layer, by its name."""
    products = {f"layers.{i}": edge.product for i, edge in enumerate(lowered.edges)} | {"embed": lowered.embed}
    return {name: forms(product) for name, product in products.items()}


def given(lowered: Lowered, precision: str) -> dict[str, KernelChoice]:
    """Each layer in the form asked for, where it has that form, else as floats."""
    forms = available(lowered).items()
    return {name: KernelChoice(precision if precision in of else "float", {}) for name, of in forms}


def fastest(lowered: Lowered, threads: int, num_points: int) -> dict[str, KernelChoice]:
    """Each layer in its fastest form for one cloud of ``num_points``."""
    of = available(lowered)
    if all(len(found) == 1 for found in of.values()):
        return given(lowered, "float")
    store: Store = {}
    rounds = max(len(found) for found in of.values())
    plans = [
        Plan(lowered, {name: found[i % len(found)] for name, found in of.items()}, num_points, 1, threads, store)
        for i in range(rounds)
    ]
    best = measured(plans, lowered, num_points)
    found = {}
    for name, names in of.items():
        ms = {form: min(best[i][name] for i in range(rounds) if plans[i].chosen[name] == form) for form in names}
        found[name] = KernelChoice(min(ms, key=ms.__getitem__), ms if len(ms) > 1 else {})
    return found


def measured(plans: list[Plan], lowered: Lowered, num_points: int) -> list[Mapping[str, float]]:
    """For each plan the least milliseconds of each layer, all on the same random cloud, in turns."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num_points, lowered.in_channels, generator=generator, dtype=torch.float32)
    ptr, point = torch.tensor([0, num_points], dtype=torch.int64), x.new_empty(num_points, plans[0].columns)
    tensors = [(x, x[:, :3].contiguous(), ptr, point, x.new_empty(1, plan.pooled)) for plan in plans]
    least = [[float("inf")] * len(plan.steps) for plan in plans]
    with torch.no_grad():
        for _ in range(REPEATS):
            for plan, some, best in zip(plans, tensors, least, strict=True):
                best[:] = map(min, best, plan.timed(perf_counter, *some))
    found: list[Mapping[str, float]] = []
    for plan, best in zip(plans, least, strict=True):
        total = dict.fromkeys(plan.chosen, 0.0)
        for step, seconds in zip(plan.steps, best, strict=True):
            total[step.layer] += 1e3 * seconds if step.stage != "knn" else 0.0
        found.append(total)
    return found
