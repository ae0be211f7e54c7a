"""Cards and weights of earlier versions in today's form; done after their sums were verified."""

from typing import Any

from torch import Tensor


def has_shapes(card: dict[str, Any]) -> bool:
    """Whether the sum of the weights covers types and shapes: since geo3d 0.2.0, when cards got a sum of their own."""
    return "card_sha256" in card


def upgrade_card(card: dict[str, Any]) -> dict[str, Any]:
    """What a card says, in today's words.

    - Before geo3d 0.3.0 heads had no class; all were classifiers.
    - Before geo3d 0.3.0 ``input.normalize`` was true for the unit sphere and false for none.
    """
    card = {"class": "Classifier"} | card
    seen = card.get("input")
    if isinstance(seen, dict) and isinstance(seen.get("normalize"), bool):
        card["input"] = seen | {"normalize": "unit_sphere" if seen["normalize"] else "none"}
    return card


def upgrade_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under today's names. Nothing has been renamed since geo3d 0.1.0."""
    return state
