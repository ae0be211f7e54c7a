"""Checks of constructor keywords: the value itself, or one line saying what was expected and what was found."""

from numbers import Integral, Real

from geo3d.errors import ConfigError


def require(ok: bool, owner: object, option: str, expected: str, found: object) -> None:
    """Nothing, if ``ok``.

    Raises:
        ConfigError: If not, naming the class, the option, what was expected and what was found.
    """
    if not ok:
        raise ConfigError(f"{type(owner).__name__}: {option} must be {expected}; found {found!r}")


def number(owner: object, option: str, value: float, low: float, high: float = float("inf")) -> float:
    """``value`` as a float, if it is a finite number from ``low`` to ``high``."""
    ok = isinstance(value, Real) and not isinstance(value, bool) and low <= value <= high and value != float("inf")
    expected = f"a number >= {low}" if high == float("inf") else f"a number from {low} to {high}"
    require(ok, owner, option, expected, value)
    return float(value)


def whole(owner: object, option: str, value: int, low: int) -> int:
    """``value`` as an int, if it is a whole number of at least ``low``."""
    ok = isinstance(value, Integral) and not isinstance(value, bool) and value >= low
    require(ok, owner, option, f"a whole number >= {low}", value)
    return int(value)


def interval(owner: object, low: float, high: float, names: tuple[str, str], most: float = float("inf")) -> None:
    """Nothing, if 0 < low <= high <= most."""
    number(owner, names[0], low, 0.0, most)
    number(owner, names[1], high, 0.0, most)
    require(0 < low <= high, owner, f"{names[0]} and {names[1]}", f"0 < {names[0]} <= {names[1]}", (low, high))
