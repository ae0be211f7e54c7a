"""Which values of a matrix share one step of a quantiser."""

from dataclasses import dataclass
from typing import ClassVar

from geo3d.errors import ConfigError


@dataclass(frozen=True)
class RowGroups:
    """For weights: the rows lie in ``groups`` runs of equal length, and each run has one step.

    ``RowGroups(1)`` is one step for the matrix, ``RowGroups(out_channels)`` one for each output channel.

    Args:
        groups: How many steps there are.
    """

    groups: int = 1
    axis: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _check(self.groups)

    def fits(self, rows: int, columns: int) -> bool:
        """Whether a matrix of this size can be divided so."""
        return rows % self.groups == 0


@dataclass(frozen=True)
class Columns:
    """For features: each of ``groups`` columns has one step; ``Columns(1)`` is one step for all columns.

    Args:
        groups: How many steps there are.
    """

    groups: int = 1
    axis: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _check(self.groups)

    def fits(self, rows: int, columns: int) -> bool:
        """Whether a matrix of this size can be divided so."""
        return self.groups in (1, columns)


def _check(groups: int) -> None:
    if groups < 1:
        raise ConfigError(f"a quantiser needs groups >= 1; found {groups}")
