"""What has been done to an encoder: the list ``encoder.compression``, from which its modules can be built again."""

import copy
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from torch import nn

from geo3d.errors import CheckpointError, ConfigError

ORDER = ("structure", "prune", "quantize", "adapt")
"""Each step works on what those before it have left; the file of that name in this folder does it."""


def records(encoder: nn.Module) -> list[dict[str, Any]]:
    """The steps that have been done to an encoder, each as a JSON-able record."""
    return list(getattr(encoder, "compression", []))


def check_order(encoder: nn.Module, step: str) -> None:
    """Nothing, if ``step`` may be done to the encoder now.

    Raises:
        ConfigError: If it has been done, or comes before one that has.
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
        ConfigError: If it is not that step's turn.
    """
    check_order(encoder, step)
    other = copy.deepcopy(encoder)
    other.compression = records(encoder)  # type: ignore[assignment]
    return other


def rebuild(encoder: nn.Module, steps: Sequence[Mapping[str, Any]]) -> nn.Module:
    """The encoder with the modules that ``steps`` put into it, their values still to be loaded.

    Raises:
        CheckpointError: If a step is not known, or does not fit the encoder.
    """
    if not isinstance(steps, Sequence) or not all(isinstance(record, Mapping) for record in steps):
        raise CheckpointError(f"the checkpoint's compression must be a list of records; found {steps!r}")
    for record in steps:
        if record.get("step") not in ORDER:
            raise CheckpointError(
                f"the checkpoint names a compression step {record.get('step')!r}; known: {', '.join(ORDER)}"
            )
        step = import_module(f"geo3d.compress.{record['step']}")
        try:
            encoder = step.restore(encoder, record)
        except (KeyError, AttributeError, TypeError, ValueError, RuntimeError, AssertionError, ConfigError) as error:
            raise CheckpointError(
                f"the record of the step {record['step']} does not fit the encoder: {error!r}"
            ) from None
    encoder.compression = [dict(record) for record in steps]  # type: ignore[assignment]
    return encoder
