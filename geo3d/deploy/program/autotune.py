"""Chooses the fastest form of each layer by running all forms on this machine."""

from collections.abc import Mapping
from time import perf_counter
from typing import NamedTuple

import torch

from geo3d.deploy.program.lower import Lowered
from geo3d.deploy.program.plan import Plan, Store, forms

REPEATS = 15
"""How often each form is run, in turns. The fastest run counts, because disturbances only make a run slower."""


class KernelChoice(NamedTuple):
    """The form in which a layer is computed, and the times that were measured."""

    form: str
    """``float``, ``int8`` or ``dense``, see :func:`geo3d.deploy.program.plan.forms`."""
    ms: dict[str, float]
    """Milliseconds of each form, without the search for neighbours; empty if there was nothing to choose."""


def available(lowered: Lowered) -> dict[str, tuple[str, ...]]:
    """The forms that each layer can be computed in, by name of the layer."""
    products = {f"layers.{i}": edge.product for i, edge in enumerate(lowered.edges)} | {"embed": lowered.embed}
    return {name: forms(product) for name, product in products.items()}


def given(lowered: Lowered, precision: str) -> dict[str, KernelChoice]:
    """For each layer the form ``precision`` if the layer has it, else ``float``; nothing is measured."""
    forms = available(lowered).items()
    return {name: KernelChoice(precision if precision in of else "float", {}) for name, of in forms}


def fastest(lowered: Lowered, threads: int, num_points: int) -> dict[str, KernelChoice]:
    """The fastest form of each layer for one cloud of ``num_points``, by name of the layer."""
    forms_of = available(lowered)
    if all(len(names) == 1 for names in forms_of.values()):
        return given(lowered, "float")
    store: Store = {}
    rounds = max(len(names) for names in forms_of.values())
    plans = [
        Plan(lowered, {name: names[i % len(names)] for name, names in forms_of.items()}, num_points, 1, threads, store)
        for i in range(rounds)
    ]
    best = measured(plans, lowered, num_points)
    choices = {}
    for name, names in forms_of.items():
        ms = {form: min(best[i][name] for i in range(rounds) if plans[i].chosen[name] == form) for form in names}
        choices[name] = KernelChoice(min(ms, key=ms.__getitem__), ms if len(ms) > 1 else {})
    return choices


def measured(plans: list[Plan], lowered: Lowered, num_points: int) -> list[Mapping[str, float]]:
    """For each plan the shortest time of each layer in milliseconds, without the search for neighbours.

    The plans run in turns, all on the same random cloud.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num_points, lowered.in_channels, generator=generator, dtype=torch.float32)
    ptr, point = torch.tensor([0, num_points], dtype=torch.int64), x.new_empty(num_points, plans[0].columns)
    tensors = [(x, x[:, :3].contiguous(), ptr, point, x.new_empty(1, plan.pooled)) for plan in plans]
    least = [[float("inf")] * len(plan.steps) for plan in plans]
    with torch.no_grad():
        for _ in range(REPEATS):
            for plan, some, best in zip(plans, tensors, least, strict=True):
                best[:] = map(min, best, plan.timed(perf_counter, *some))
    times: list[Mapping[str, float]] = []
    for plan, best in zip(plans, least, strict=True):
        total = dict.fromkeys(plan.chosen, 0.0)
        for step, seconds in zip(plan.steps, best, strict=True):
            total[step.layer] += 1e3 * seconds if step.stage != "knn" else 0.0
        times.append(total)
    return times
