"""Reading and verifying checkpoint files: tensors, and the card that describes them."""

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

MESSAGE = 300  # most characters of another library's message: torch lists every key that does not fit
WEIGHTS, CARD, HEAD, DECODER = "encoder.safetensors", "encoder.json", "head.safetensors", "decoder.safetensors"


class Stored(NamedTuple):
    """A file of weights with its card and its tensors."""

    file: Path
    card: dict[str, Any]
    state: dict[str, Tensor]


def finite_state(module: nn.Module, what: str) -> dict[str, Tensor]:
    """The module's state dict on the CPU, with quantised weights replaced by their codes.

    Args:
        module: The encoder, head or decoder to be saved.
        what: What the error message calls the module.

    Raises:
        CheckpointError: If a value is NaN or infinite.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in as_codes(module).items()}
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise CheckpointError(f"the {what} has NaN or infinite weights and is not saved; train it with a lower lr")
    return state


def fingerprint(state: dict[str, Tensor], shapes: bool = True) -> str:
    """SHA-256 of the names, dtypes, shapes and values of a state dict.

    Args:
        state: Contiguous CPU tensors by name.
        shapes: Whether dtypes and shapes count; geo3d before 0.2.0 summed names and values alone.
    """
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        if shapes:
            digest.update(f"{state[key].dtype} {tuple(state[key].shape)}".encode())
        digest.update(state[key].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def card_sum(card: dict[str, Any]) -> str:
    """SHA-256 of a card's entries, without ``card_sha256``; indentation and the order of keys do not change it."""
    entries = {key: value for key, value in card.items() if key != "card_sha256"}
    as_read = json.loads(json.dumps(entries))  # turns tuples into lists and keys into strings, as in a card read back
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


def encoder_folder(path: str | Path) -> Path:
    """The folder that holds weights and card: ``path`` itself, or the folder ``encoder`` in it.

    Raises:
        CheckpointError: If neither holds both files.
    """
    folder = Path(path)
    for candidate in (folder, folder / "encoder"):
        if (candidate / CARD).is_file() and (candidate / WEIGHTS).is_file():
            return candidate
    names = ", ".join(sorted(os.listdir(folder))[:8]) if folder.is_dir() else "no such folder"
    raise CheckpointError(
        f"{folder}: expected {WEIGHTS} and {CARD}; found {names or 'nothing'}; give the encoder's folder"
    )


def read_card(path: str | Path) -> dict[str, Any]:
    """The card of the encoder at ``path``, under today's names.

    It is read from ``encoder.json``. If that file belongs to other weights than those in the folder, the copy of the
    card in the weights file is used instead.

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
        CheckpointError: If there is no checkpoint at ``path``, or it is damaged.
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
        CheckpointError: If the file is damaged.
    """
    with describing(file), safe_open(file, "pt") as weights:
        metadata = weights.metadata()
        card = json.loads(metadata["card"])
        card.setdefault("sha256", metadata.get("sha256"))  # before geo3d 0.2.0 the sum stood beside the card
        state = _tensors(weights)
    what = file.stem
    if card.get("card_sha256", card_sum(card)) != card_sum(card):
        raise CheckpointError(f"{file}: the card is damaged; save the {what} again")
    return verified(file, card, state, what)


def _tensors(weights: Any) -> dict[str, Tensor]:
    names = list(weights.keys())
    return {name: weights.get_tensor(name) for name in names}


def verified(file: Path, card: dict[str, Any], state: dict[str, Tensor], what: str) -> Stored:
    """Card and weights under today's names, once the weights match the card's SHA-256.

    Args:
        file: The file that was read.
        card: The card that belongs to the weights.
        state: The weights as they were read.
        what: What the error message calls the module: encoder, head or decoder.

    Raises:
        CheckpointError: If the weights do not match.
    """
    if fingerprint(state, shapes=has_shapes(card)) != card["sha256"]:
        raise CheckpointError(f"{file}: damaged: the weights do not match the card's SHA-256; save the {what} again")
    return Stored(file, upgrade_card(card), upgrade_state(state))


def fill(module: nn.Module, stored: Stored, complaint: str) -> nn.Module:
    """The module in evaluation mode, after the stored weights have been loaded into it.

    Raises:
        CheckpointError: If the weights do not fit; the message begins with ``complaint``.
    """
    try:
        module.load_state_dict(from_codes(module, stored.state))
    except Exception as error:  # from torch, or from unpacking codes whose sizes contradict the card
        raise CheckpointError(f"{complaint}: {short(str(error) or type(error).__name__)}") from error
    return module.eval()


def _agreed(folder: Path, carried: Any) -> dict[str, Any]:
    """The card that belongs to the weights in a folder: the one in ``encoder.json``, otherwise ``carried``.

    Args:
        folder: The encoder's folder.
        carried: The copy of the card in the weights file.

    Raises:
        CheckpointError: If a card is damaged, or the two describe the same weights differently.
    """
    with describing(folder / CARD):
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    for file, entries in ((folder / WEIGHTS, carried), (folder / CARD, card)):
        check_card(entries, file)
    if card["sha256"] != carried["sha256"]:
        return carried  # a process was killed when it had replaced one of the two files
    if card_sum(card) != card_sum(carried):  # geo3d before 0.2.0 wrote no sums into cards, but it wrote both copies
        raise CheckpointError(f"{folder / CARD}: differs from its copy in {WEIGHTS}; it was damaged or changed by hand")
    return card


def check_card(card: Any, file: Path) -> None:
    """Check that a card has a class, keywords and the sum of the weights, and matches its own sum if it has one.

    Raises:
        CheckpointError: If it does not.
    """
    if not isinstance(card, dict) or not {"class", "keywords", "sha256"} <= card.keys():
        raise CheckpointError(
            f"{file}: expected a card with class, keywords and sha256, found other content; give an encoder's folder"
        )
    if not isinstance(card["keywords"], dict) or not isinstance(card["sha256"], str):
        raise CheckpointError(
            f"{file}: the card's keywords must be a mapping and its sha256 a string; save the encoder again"
        )
    if "card_sha256" in card and card["card_sha256"] != card_sum(card):
        raise CheckpointError(f"{file}: the card is damaged or was changed by hand; save the encoder again")


@contextmanager
def describing(file: Path) -> Iterator[None]:
    """Turn every exception in the block into a CheckpointError whose message begins with the file's path."""
    try:
        yield
    except CheckpointError as error:
        message = str(error)
        raise CheckpointError(message if message.startswith(str(file)) else f"{file}: {message}") from None
    except Exception as error:  # a file may hold anything, so safetensors, json and Python may raise anything
        reason = short(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        raise CheckpointError(f"{file}: damaged, or not written by geo3d ({reason}); save it again") from error


def short(text: str) -> str:
    """The text in one line, cut after ``MESSAGE`` characters."""
    text = " ".join(text.split())
    return text if len(text) < MESSAGE else text[:MESSAGE] + " ..."
