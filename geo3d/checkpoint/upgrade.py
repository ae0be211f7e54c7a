"""Cards and weights of earlier versions in today's form; done after their sums were verified."""

from typing import Any

from torch import Tensor

RECORDS = {"exits": "depths", "finished": "finalized", "share": "fraction"}
"""Words in the records of compression steps, before geo3d 0.3.0 and now."""


def has_shapes(card: dict[str, Any]) -> bool:
    """Whether the sum of the weights covers types and shapes: since geo3d 0.2.0, when cards got a sum of their own."""
    return "card_sha256" in card


def upgrade_card(card: dict[str, Any]) -> dict[str, Any]:
    """What a card says, in today's words.

    - Before geo3d 0.3.0 heads had no class; all were classifiers.
    - Before geo3d 0.3.0 ``input.normalize`` was true for the unit sphere and false for none.
    - Before geo3d 0.3.0 the records of compression steps used other words (``RECORDS``).
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
    """Weights under today's names.

    - Before geo3d 0.3.0 the quantizer of the neighbours' parts was called ``table_quantizer``.
    - Before geo3d 0.3.0 the flag ``initialized`` of a quantizer was called ``ready``.
    """
    return {_renamed(key, state): value for key, value in state.items()}


def _renamed(key: str, state: dict[str, Tensor]) -> str:
    owner, _, name = key.rpartition(".")
    if name == "ready" and f"{owner}.log_step" in state:
        name = "initialized"
    owner = owner.replace("table_quantizer", "neighbor_quantizer")
    return f"{owner}.{name}" if owner else name
