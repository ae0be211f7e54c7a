"""How sums of several processes become one."""

from collections.abc import Callable

from torch import Tensor

Join = Callable[..., tuple[Tensor, ...]]


def alone(*sums: Tensor) -> tuple[Tensor, ...]:
    """The sums as they are: what a single process joins."""
    return sums
