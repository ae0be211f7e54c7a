"""What several invariances ask of their keywords."""

from typing import Annotated

from geo3d.checks import Range
from geo3d.errors import ConfigError

Distance = Annotated[float, Range(0, 1e6)]
"""In the units of a cloud."""


def ordered(owner: object, low: str, high: str, least: float, most: float) -> None:
    """Check that ``least <= most``.

    Raises:
        ConfigError: If not, naming the class and its two keywords.
    """
    if least > most:
        raise ConfigError(f"{type(owner).__name__}: {low} must not be above {high}; found {(least, most)}")
