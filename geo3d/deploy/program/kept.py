"""The last few plans of a program: one for each size of a batch, made when that size is first seen."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch

PLANS = 8
"""For how many sizes of batches the plans, with their buffers, are kept."""
P = TypeVar("P")


class Kept(Generic[P]):
    """Plans by key; of more than ``PLANS`` the one that was made first is dropped.

    Plans are made outside of inference mode: tensors that they hand out must also serve callers who compute gradients.
    """

    def __init__(self) -> None:
        self._plans: dict[Hashable, P] = {}

    def get(self, key: Hashable, make: Callable[[], P]) -> P:
        """The plan for the key; ``make`` is called if there is none."""
        if key not in self._plans:
            with torch.inference_mode(False):
                plan = make()
            if len(self._plans) == PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = plan
        return self._plans[key]
