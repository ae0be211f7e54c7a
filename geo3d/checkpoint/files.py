"""What lies on disk: tensors and a card that describes them, written whole, verified when they are read."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor, nn

from geo3d.checkpoint.quantized import as_codes, from_codes
from geo3d.checkpoint.upgrade import has_shapes, upgrade_card, upgrade_state
from geo3d.errors import CheckpointError

MESSAGE = 300  # characters of torch's lists of keys
WEIGHTS, CARD, HEAD, DECODER = "encoder.safetensors", "encoder.json", "head.safetensors", "decoder.safetensors"


class Stored(NamedTuple):
    """The content of a file of weights."""

    file: Path
    card: dict[str, Any]
    state: dict[str, Tensor]


def finite_state(module: nn.Module, what: str) -> dict[str, Tensor]:
    """The state to be stored, rounded weights as codes.

    Raises:
        CheckpointError: If it holds NaN or infinite values.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in as_codes(module).items()}
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise CheckpointError(f"the {what} has NaN or infinite weights and is not saved; train it with a lower lr")
    return state


def fingerprint(state: dict[str, Tensor], shapes: bool = True) -> str:
    """SHA-256 of all names, types, shapes and values of a state dict; before geo3d 0.2.0 of names and values alone."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        if shapes:
            digest.update(f"{state[key].dtype} {tuple(state[key].shape)}".encode())
        digest.update(state[key].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def card_sum(card: dict[str, Any]) -> str:
    """SHA-256 of what a card says, but for this sum itself, however it is written."""
    said = {key: value for key, value in card.items() if key != "card_sha256"}
    as_read = json.loads(json.dumps(said))  # tuples are lists then, and all keys are texts
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


def encoder_folder(path: str | Path) -> Path:
    """The folder that holds the two files: ``path`` itself, or ``encoder`` in it.

    Raises:
        CheckpointError: If neither does.
    """
    folder = Path(path)
    for candidate in (folder, folder / "encoder"):
        if (candidate / CARD).is_file() and (candidate / WEIGHTS).is_file():
            return candidate
    found = ", ".join(sorted(os.listdir(folder))[:8]) if folder.is_dir() else "no such folder"
    raise CheckpointError(
        f"{folder}: expected {WEIGHTS} and {CARD}; found {found or 'nothing'}; give the encoder's folder"
    )


def read_card(path: str | Path) -> dict[str, Any]:
    """What ``encoder.json`` says, or the copy in the weights if that belongs to another version of them.

    Raises:
        CheckpointError: If there is no checkpoint at ``path``, or its card cannot be read or has been changed.
    """
    folder = encoder_folder(path)
    with describing(folder / WEIGHTS), safe_open(folder / WEIGHTS, "pt") as weights:
        carried = json.loads(weights.metadata()["card"])
    return upgrade_card(_agreed(folder, carried))


def read_encoder(path: str | Path) -> Stored:
    """Card and verified weights of the encoder saved at ``path``; each file is opened once.

    Raises:
        CheckpointError: If there is none, or it is damaged.
    """
    folder = encoder_folder(path)
    with describing(folder / WEIGHTS), safe_open(folder / WEIGHTS, "pt") as weights:
        carried = json.loads(weights.metadata()["card"])
        state = _tensors(weights)
    card = _agreed(folder, carried)
    return verified(folder / WEIGHTS, card, state, "encoder")


def read_part(file: Path) -> Stored:
    """Card and verified weights of a head or decoder.

    Raises:
        CheckpointError: If it is damaged.
    """
    with describing(file), safe_open(file, "pt") as weights:
        metadata = weights.metadata()
        card = json.loads(metadata["card"])
        card.setdefault("sha256", metadata.get("sha256"))  # where it was before geo3d 0.2.0
        state = _tensors(weights)
    what = file.stem
    if card.get("card_sha256", card_sum(card)) != card_sum(card):
        raise CheckpointError(f"{file}: the card is damaged; save the {what} again")
    return verified(file, card, state, what)


def _tensors(weights: Any) -> dict[str, Tensor]:
    names = list(weights.keys())
    return {name: weights.get_tensor(name) for name in names}


def verified(file: Path, card: dict[str, Any], state: dict[str, Tensor], what: str) -> Stored:
    """The same in today's form, if the weights are those that the card was written for.

    Raises:
        CheckpointError: If they are not.
    """
    if fingerprint(state, shapes=has_shapes(card)) != card["sha256"]:
        raise CheckpointError(f"{file}: damaged: not the weights that were saved; save the {what} again")
    return Stored(file, upgrade_card(card), upgrade_state(state))


def fill(module: nn.Module, stored: Stored, complaint: str) -> nn.Module:
    """The module in evaluation mode, with the stored weights.

    Raises:
        CheckpointError: If they do not fit; the message begins with ``complaint``.
    """
    try:
        module.load_state_dict(from_codes(module, stored.state))
    except Exception as error:  # torch, and codes of other sizes than the card says
        raise CheckpointError(f"{complaint}: {short(str(error) or type(error).__name__)}") from error
    return module.eval()


def _agreed(folder: Path, carried: Any) -> dict[str, Any]:
    """The card of the weights in a folder: the file, or the copy that these carry."""
    with describing(folder / CARD):
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    for file, said in ((folder / WEIGHTS, carried), (folder / CARD, card)):
        check_card(said, file)
    if card["sha256"] != carried["sha256"]:
        return carried
    if card_sum(card) != card_sum(carried):  # before geo3d 0.2.0 cards had no sums, but there were two as well
        raise CheckpointError(f"{folder / CARD}: differs from its copy in {WEIGHTS}; it was damaged or changed by hand")
    return card


def check_card(card: Any, file: Path) -> None:
    """Check that a card names a class, keywords and sums, and that it says what it said when it was written.

    Raises:
        CheckpointError: If it does not.
    """
    if not isinstance(card, dict) or not {"class", "keywords", "sha256"} <= card.keys():
        raise CheckpointError(f"{file}: expected a card with class, keywords and sha256; is it an encoder's?")
    if not isinstance(card["keywords"], dict) or not isinstance(card["sha256"], str):
        raise CheckpointError(f"{file}: the card's keywords must be a mapping and its sha256 a text; save it again")
    if "card_sha256" in card and card["card_sha256"] != card_sum(card):
        raise CheckpointError(f"{file}: the card is damaged or was changed by hand; save the encoder again")


@contextmanager
def describing(file: Path) -> Iterator[None]:
    """Whatever reading the file raises in the block ends as a CheckpointError that names it."""
    try:
        yield
    except CheckpointError as error:
        said = str(error)
        raise CheckpointError(said if said.startswith(str(file)) else f"{file}: {said}") from None
    except Exception as error:  # of safetensors, JSON and Python: a file may hold anything
        reason = short(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        raise CheckpointError(f"{file}: damaged, or not written by geo3d ({reason}); save it again") from error


def short(text: str) -> str:
    """The text in one line of at most ``MESSAGE`` characters."""
    text = " ".join(text.split())
    return text if len(text) < MESSAGE else text[:MESSAGE] + " ..."
