"""What an invariance is: something that may be done to a cloud and should not change what the encoder says of it."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch_geometric.data import Batch

from geo3d.checks import checked

Element = Any
"""One draw for a whole batch: a tensor (B, ...), or what else the invariance needs to do the same again."""


class Invariance(ABC):
    """A family of maps of clouds to clouds; ``sample`` picks one for each cloud of a batch, ``act`` applies them.

    Constructor keywords are kept as attributes of the same name.
    """

    @property
    def name(self) -> str:
        """What tables and plots call it."""
        return type(self).__name__

    @abstractmethod
    def sample(self, batch: Batch, generator: torch.Generator) -> Element:
        """An element with its own parameters for each cloud, drawn on the generator's device, given on the batch's."""

    @abstractmethod
    def act(self, element: Element, batch: Batch) -> Batch:
        """A new batch, each cloud moved by its part of the element; ``batch`` stays as it is."""

    def draw(self, batch: Batch, generator: torch.Generator) -> tuple[Element, Batch]:
        """A sampled element and the batch it gives."""
        element = self.sample(batch, generator)
        return element, self.act(element, batch)

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch under a sampled element."""
        return self.draw(batch, generator)[1]

    def __matmul__(self, other: "Invariance") -> "Compose":
        """``other`` first, then this one."""
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

    Each part samples from the batch that the parts before it have left, because a part may change the number of
    points; its element is the tuple of the parts' elements. No parts at all: the identity.

    Args:
        parts: In the order in which they act.
    """

    @checked
    def __init__(self, parts: Sequence[Invariance]) -> None:
        self.parts = list(parts)

    @property
    def name(self) -> str:
        """The names of the parts, the one that acts first last, as in ``A @ B``."""
        return " @ ".join(part.name for part in reversed(self.parts)) or "identity"

    def sample(self, batch: Batch, generator: torch.Generator) -> tuple[Element, ...]:
        """One element a part; the parts act while sampling, so ``draw`` is the way to get the batch as well."""
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
    """The invariances that a composition is made of; another one alone."""
    if isinstance(invariance, Compose):
        return [part for each in invariance.parts for part in parts_of(each)]
    return [invariance]
