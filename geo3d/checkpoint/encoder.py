"""An encoder on disk: ``encoder.safetensors`` (weights) beside ``encoder.json`` (how to build it, its origin).

Compressed encoders are stored alike: the card tells what has been done to them, and rounded weights are kept as codes
of so many bits. A head may lie beside it, in ``head.safetensors``.
"""

import hashlib
import inspect
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

import geo3d
from geo3d import compress, encoders
from geo3d.checkpoint.quantized import as_codes, from_codes
from geo3d.errors import CheckpointError, did_you_mean
from geo3d.heads import Classifier
from geo3d.io.files import replacing

MESSAGE = 300  # characters of torch's lists of keys
WEIGHTS, CARD, HEAD = "encoder.safetensors", "encoder.json", "head.safetensors"


def keywords_of(encoder: nn.Module) -> dict[str, Any]:
    """The constructor keywords of an encoder, read from its attributes of the same names (JSON-able).

    Of one that wraps another (``encoder.inner``) those of the inner one.
    """
    encoder = getattr(encoder, "inner", encoder)
    names = [name for name in inspect.signature(type(encoder).__init__).parameters if name != "self"]
    values = {name: getattr(encoder, name) for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def save_encoder(encoder: nn.Module, folder: str | Path, **card: Any) -> Path:
    """The folder, after the encoder has been written there; an older checkpoint stays whole if writing fails.

    Args:
        encoder: One of the classes in ``geo3d.encoders``.
        folder: Made if it is not there.
        card: What else the card shall say: input convention, data, budget, metrics (JSON-able).

    Raises:
        CheckpointError: If the encoder is of a class that geo3d does not know.
        OSError: If the files cannot be written (disk full, no permission).
    """
    name = type(getattr(encoder, "inner", encoder)).__name__
    if name not in encoders.__all__:
        raise CheckpointError(f"cannot save a {name}: not one of geo3d.encoders ({', '.join(encoders.__all__)})")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = finite_state(encoder, "encoder")
    known = {"class": name, "keywords": keywords_of(encoder), "geo3d": geo3d.__version__, **card}
    if compress.records(encoder):
        known["compression"] = compress.records(encoder)
    known["sha256"] = fingerprint(state)
    known["card_sha256"] = card_sum(known)
    # The weights carry the card, too: whoever is killed between the two renames below leaves a readable checkpoint.
    blob = safetensors.torch.save(state, {"card": json.dumps(known)})
    with replacing(folder / WEIGHTS) as weights, replacing(folder / CARD) as described:
        weights.write_bytes(blob)
        described.write_text(json.dumps(known, indent=2))
    return folder


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
    with describing(folder / CARD):
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    for file, said in ((folder / WEIGHTS, carried), (folder / CARD, card)):
        check_card(said, file)
    if card["sha256"] != carried["sha256"]:
        return carried
    if card_sum(card) != card_sum(carried):  # before geo3d 0.2.0 cards had no sums, but there were two as well
        raise CheckpointError(f"{folder / CARD}: differs from its copy in {WEIGHTS}; it was damaged or changed by hand")
    return card


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


def build_encoder(card: dict[str, Any]) -> nn.Module:
    """A freshly initialised encoder of the class and with the keywords that the card names, not compressed."""
    name = card["class"]
    if name not in encoders.__all__:
        hint = did_you_mean(name, encoders.__all__)
        raise CheckpointError(f"the checkpoint holds a {name}, which this geo3d does not know; {hint}")
    try:
        return getattr(encoders, name)(**card["keywords"])
    except Exception as error:  # a card may name any values
        raise CheckpointError(f"the checkpoint's keywords do not fit {name}: {short(str(error))}") from error


def load_encoder(path: str | Path, expected: type[nn.Module] | None = None) -> nn.Module:
    """The encoder saved at ``path``, in evaluation mode; nothing is ever unpickled.

    Args:
        path: A folder written by :func:`save_encoder`, or a run folder that holds one named ``encoder``.
        expected: Refuse a checkpoint of another class.

    Raises:
        CheckpointError: If there is none, it is damaged, or it is of another class.
    """
    folder = encoder_folder(path)
    card = read_card(folder)
    if expected is not None and card["class"] != expected.__name__:
        raise CheckpointError(
            f"{folder}: expected a {expected.__name__}, found a {card['class']}; give the right checkpoint"
        )
    try:
        encoder = compress.rebuild(build_encoder(card), card.get("compression", []))
    except Exception as error:  # a record may say anything, too
        raise CheckpointError(f"{folder / CARD}: {short(str(error) or type(error).__name__)}") from error
    state = _read(folder / WEIGHTS)
    if fingerprint(state, shapes="card_sha256" in card) != card["sha256"]:
        raise CheckpointError(f"{folder / WEIGHTS}: damaged: not the weights that were saved; save the encoder again")
    _fill(encoder, state, f"{folder / WEIGHTS}: the weights do not fit {card['class']}")
    return encoder.eval()


def _read(path: Path) -> dict[str, Tensor]:
    with describing(path):
        return safetensors.torch.load_file(path)


def _fill(module: nn.Module, state: dict[str, Tensor], complaint: str) -> None:
    try:
        module.load_state_dict(from_codes(module, state))
    except Exception as error:  # torch, and codes of other sizes than the card says
        raise CheckpointError(f"{complaint}: {short(str(error) or type(error).__name__)}") from error


def save_head(head: Classifier, folder: str | Path) -> Path:
    """The folder, after a classifier has been written beside the encoder there, for which it was trained.

    Raises:
        CheckpointError: If it has NaN or infinite weights.
    """
    names = [name for name in inspect.signature(Classifier.__init__).parameters if name != "self"]
    state = finite_state(head, "head")
    card = {"keywords": {name: getattr(head, name) for name in names}, "compression": compress.records(head)}
    card |= {"encoder": read_card(folder)["sha256"], "sha256": fingerprint(state)}
    card["card_sha256"] = card_sum(card)
    blob = safetensors.torch.save(state, {"card": json.dumps(card)})
    with replacing(Path(folder) / HEAD) as path:
        path.write_bytes(blob)
    return Path(folder)


def load_head(path: str | Path) -> Classifier | None:
    """The classifier that lies beside the encoder saved at ``path``, in evaluation mode; None if there is none.

    Raises:
        CheckpointError: If it is damaged, or belongs to another encoder.
    """
    folder = encoder_folder(path)
    file = folder / HEAD
    if not file.exists():
        return None
    with describing(file):
        with safe_open(file, "pt") as weights:
            metadata = weights.metadata()
        card = json.loads(metadata["card"])
        card.setdefault("sha256", metadata.get("sha256"))  # where it was before geo3d 0.2.0
        if card.get("card_sha256", card_sum(card)) != card_sum(card):
            raise CheckpointError(f"{file}: the card is damaged; save the head again")
        head = compress.rebuild(Classifier(**card["keywords"]), card["compression"])
    state = _read(file)
    if fingerprint(state, shapes="card_sha256" in card) != card["sha256"]:
        raise CheckpointError(f"{file}: damaged: not the weights that were saved; save the head again")
    if card.get("encoder", of := read_card(folder)["sha256"]) != of:
        raise CheckpointError(f"{file}: belongs to another encoder than the one beside it; save the head again")
    _fill(head, state, f"{file}: the weights do not fit")
    assert isinstance(head, Classifier)
    return head.eval()
