"""Base classes of invariances: families of maps of clouds that should not change the features of an encoder."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch_geometric.data import Batch

from geo3d.checks import checked

Element = Any
"""One draw for a whole batch: a tensor (B, ...), or whatever else the invariance needs to repeat the same map."""


class Invariance(ABC):
    """A family of maps of clouds to clouds; ``sample`` picks one for each cloud of a batch, ``act`` applies them.

    Constructor keywords are kept as attributes of the same name.
    """

    @property
    def name(self) -> str:
        """The name in tables and plots."""
        return type(self).__name__

    @abstractmethod
    def sample(self, batch: Batch, generator: torch.Generator) -> Element:
        """An element with separate parameters for each cloud, drawn on the generator's device, moved to the batch's."""

    @abstractmethod
    def act(self, element: Element, batch: Batch) -> Batch:
        """A new batch, with each cloud mapped by its part of the element; ``batch`` does not change."""

    def draw(self, batch: Batch, generator: torch.Generator) -> tuple[Element, Batch]:
        """A sampled element, and the batch mapped by it."""
        element = self.sample(batch, generator)
        return element, self.act(element, batch)

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch mapped by a sampled element."""
        return self.draw(batch, generator)[1]

    def __matmul__(self, other: "Invariance") -> "Compose":
        """The composition that applies ``other`` first, then this invariance."""
        return Compose([other, self])

    def __repr__(self) -> str:
        keywords = inspect.signature(type(self)).parameters
        return f"{type(self).__name__}({', '.join(f'{key}={getattr(self, key)!r}' for key in keywords)})"


class Group(Invariance):
    """An invariance whose maps can be undone and combined: compose(a, b) acts as b and then a."""

    @abstractmethod
    def compose(self, a: Element, b: Element) -> Element:
        """The element that acts as ``b`` first and ``a`` after it."""

    @abstractmethod
    def inverse(self, a: Element) -> Element:
        """The element that undoes ``a``."""

    @abstractmethod
    def identity(self, batch: Batch) -> Element:
        """The element that changes nothing in ``batch``."""


class Compose(Invariance):
    """Several invariances one after another: the first listed acts first (so ``A @ B`` is ``Compose([B, A])``).

    Each part samples for the batch that the parts before it return, because a part may change the number of points.
    The element is the tuple of the parts' elements. Without parts it is the identity.

    Args:
        parts: The invariances, in the order in which they act.
    """

    @checked
    def __init__(self, parts: Sequence[Invariance]) -> None:
        self.parts = list(parts)

    @property
    def name(self) -> str:
        """The names of the parts, as in ``A @ B``: the part that acts first comes last."""
        return " @ ".join(part.name for part in reversed(self.parts)) or "identity"

    def sample(self, batch: Batch, generator: torch.Generator) -> tuple[Element, ...]:
        """One element per part; sampling already applies the parts, so use ``draw`` to get the batch as well."""
        return self.draw(batch, generator)[0]

    def act(self, element: tuple[Element, ...], batch: Batch) -> Batch:
        """The batch after all parts."""
        for part, own in zip(self.parts, element, strict=True):
            batch = part.act(own, batch)
        return batch

    def draw(self, batch: Batch, generator: torch.Generator) -> tuple[tuple[Element, ...], Batch]:
        """The elements and the batch after all parts, each part run once."""
        elements = []
        for part in self.parts:
            element, batch = part.draw(batch, generator)
            elements.append(element)
        return tuple(elements), batch


def parts_of(invariance: Invariance) -> list[Invariance]:
    """The parts of a composition, also of nested ones; any other invariance alone."""
    if isinstance(invariance, Compose):
        return [part for each in invariance.parts for part in parts_of(each)]
    return [invariance]
