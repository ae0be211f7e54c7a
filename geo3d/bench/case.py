"""One comparison: the same work done by several contenders, and how their outputs are checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple


class Check(NamedTuple):
    """How far a contender's output is from what it should be."""

    what: str
    """What was compared."""
    found: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the output counts as equal; never if the difference is NaN.

        Example:
            >>> Check("values", 1e-6, 1e-5).passed, Check("values", float("nan"), 1e-5).passed
            (True, False)
        """
        return self.found <= self.allowed


@dataclass(frozen=True)
class Case:
    """Contenders for one piece of work.

    Attributes:
        title: What is done, with its sizes.
        calls: Name of the contender -> function that does the work once.
        reference: The contender whose time is divided by the others'.
        check: Returns the checks of each contender by name; a contender without any is shown as not compared.
        clouds: Number of clouds in one call; memory is reported per cloud.
        flops: Name of the contender -> arithmetic of one call, to compare with the roofline.
        notes: Sentences to print below the table.
    """

    title: str
    calls: Mapping[str, Callable[[], Any]]
    reference: str
    check: Callable[[], Mapping[str, list[Check]]]
    clouds: int = 1
    flops: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Make = partial[Case]
"""Makes a case, here or in another process: a partial of a module-level function with picklable arguments."""
