"""The compression steps applied to an encoder: the list ``encoder.compression``, from which it can be rebuilt."""

import copy
from typing import Any

from torch import nn

from geo3d.errors import ConfigError

ORDER = ("structure", "prune", "quantize", "adapt")
"""The order of the steps; each step works on the result of those before it."""


def records(encoder: nn.Module) -> list[dict[str, Any]]:
    """The steps that have been applied to an encoder, each as a JSON-able record."""
    return list(getattr(encoder, "compression", []))


def check_order(encoder: nn.Module, step: str) -> None:
    """Check that ``step`` may be applied to the encoder now.

    Raises:
        ConfigError: If this step, or one that comes after it in ``ORDER``, has been applied already.
    """
    done = [record["step"] for record in records(encoder)]
    late = [name for name in done if ORDER.index(name) >= ORDER.index(step)]
    if late:
        raise ConfigError(
            f"{step}: the encoder has already been through {late[-1]}; the order is {', '.join(ORDER)}, each once"
        )


def copied(encoder: nn.Module, step: str) -> nn.Module:
    """A copy of the encoder for one more step to work on.

    Raises:
        ConfigError: If the step may not be applied now, see :func:`check_order`.
    """
    check_order(encoder, step)
    other = copy.deepcopy(encoder)
    other.compression = records(encoder)  # type: ignore[assignment]
    return other
