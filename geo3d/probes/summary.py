"""Statistics of several runs: mean and std, gain over the floor, fraction of the way to the ceiling."""

import math
from collections.abc import Sequence
from typing import Any

from geo3d.errors import ConfigError


def summarise(values: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (None for a single value), the values and their count.

    Raises:
        ConfigError: If there are no values, or one is NaN or infinite.

    Example:
        >>> summarise([0.8, 0.9, 1.0])["std"]
        0.1
    """
    values = [float(value) for value in values]
    if not values or not all(map(math.isfinite, values)):
        raise ConfigError(f"expected at least one value, all finite, found {values}; was every run evaluated?")
    count, mean = len(values), math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    std = round(math.sqrt(squares / (count - 1)), 15) if count > 1 else None
    return {"mean": mean, "std": std, "values": values, "count": count}


def paired_gain(result: Sequence[float], floor: Sequence[float]) -> dict[str, float | None]:
    """Mean of ``result - floor`` over pairs, its standard error, and their ratio.

    For a single pair the standard error and the ratio are None. The ratio is also None if all differences are equal.

    Raises:
        ConfigError: If there are no pairs or the numbers of values differ.
    """
    if len(result) != len(floor):
        raise ConfigError(f"{len(result)} results but {len(floor)} floors; pair each result with the floor of its seed")
    gain = summarise([r - f for r, f in zip(result, floor, strict=True)])
    error = None if gain["std"] is None else gain["std"] / math.sqrt(gain["count"])
    return {"mean": gain["mean"], "standard_error": error, "ratio": gain["mean"] / error if error else None}


def compare(floor: Sequence[float], result: Sequence[float], ceiling: Sequence[float] | None = None) -> dict[str, Any]:
    """The record ``floor | result | ceiling`` of one probe.

    Args:
        floor: Accuracies of the untrained encoder, one per seed.
        result: Accuracies of the pretrained encoder, one per seed, in the same order.
        ceiling: Accuracies of the encoder trained with labels, if there are any.

    Returns:
        ``floor``, ``result`` and ``ceiling`` as returned by ``summarise`` (``ceiling`` may be None), ``gain`` as
        returned by ``paired_gain``, and ``fraction``, how much of the way from floor to ceiling the result covers (None
        without a ceiling above the floor).

    Raises:
        ConfigError: If a list is empty, or results and floors cannot be paired.

    Example:
        >>> round(compare([0.70], [0.85], [0.90])["fraction"], 3)
        0.75
    """
    low, reached = summarise(floor), summarise(result)
    high = None if ceiling is None else summarise(ceiling)
    fraction = None
    if high is not None and high["mean"] > low["mean"]:
        fraction = (reached["mean"] - low["mean"]) / (high["mean"] - low["mean"])
    return {"floor": low, "result": reached, "ceiling": high, "gain": paired_gain(result, floor), "fraction": fraction}
