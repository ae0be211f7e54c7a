"""Translate cards and weights of earlier versions to today's names, after their sums have been verified."""

from typing import Any

from torch import Tensor

RECORDS = {"exits": "depths", "finished": "finalized", "share": "fraction"}
"""Keys in the records of compression steps: before geo3d 0.3.0 -> now."""


def has_shapes(card: dict[str, Any]) -> bool:
    """Whether the SHA-256 of the weights covers dtypes and shapes.

    It does since geo3d 0.2.0, and cards have a sum of their own, ``card_sha256``, since the same version.
    """
    return "card_sha256" in card


def upgrade_card(card: dict[str, Any]) -> dict[str, Any]:
    """The card with today's keys and values.

    Before geo3d 0.3.0:

    - cards of heads named no class, because all heads were classifiers;
    - ``input.normalize`` was true for the unit sphere and false for none;
    - the records of compression steps used other keys (``RECORDS``).
    """
    card = {"class": "Classifier"} | card
    seen = card.get("input")
    if isinstance(seen, dict) and isinstance(seen.get("normalize"), bool):
        card["input"] = seen | {"normalize": "unit_sphere" if seen["normalize"] else "none"}
    records = card.get("compression")
    if isinstance(records, list) and all(isinstance(record, dict) for record in records):
        card["compression"] = [{RECORDS.get(key, key): value for key, value in record.items()} for record in records]
    return card


def upgrade_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict under today's names.

    Before geo3d 0.3.0:

    - the ``neighbor_quantizer`` of an edge convolution was called ``table_quantizer``;
    - the flag ``initialized`` of a quantizer was called ``ready``.
    """
    return {_renamed(key, state): value for key, value in state.items()}


def _renamed(key: str, state: dict[str, Tensor]) -> str:
    owner, _, name = key.rpartition(".")
    if name == "ready" and f"{owner}.log_step" in state:
        name = "initialized"
    owner = owner.replace("table_quantizer", "neighbor_quantizer")
    return f"{owner}.{name}" if owner else name
