"""An encoder on disk: ``encoder.safetensors`` (weights) beside ``encoder.json`` (how to build it, its origin)."""

import difflib
import hashlib
import inspect
import json
import os
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

import geo3d
from geo3d import encoders
from geo3d.errors import CheckpointError
from geo3d.io.files import replacing

WEIGHTS, CARD = "encoder.safetensors", "encoder.json"


def keywords_of(encoder: nn.Module) -> dict[str, Any]:
    """The constructor keywords of an encoder, read from its attributes of the same names (JSON-able)."""
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
    name = type(encoder).__name__
    if name not in encoders.__all__:
        raise CheckpointError(f"cannot save a {name}: not one of geo3d.encoders ({', '.join(encoders.__all__)})")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise CheckpointError("the encoder has NaN or infinite weights and is not saved; train it with a lower lr")
    known = {"class": name, "keywords": keywords_of(encoder), "geo3d": geo3d.__version__, **card}
    known["sha256"] = fingerprint(state)
    # The weights carry the card, too: whoever is killed between the two renames below leaves a readable checkpoint.
    blob = safetensors.torch.save(state, {"card": json.dumps(known)})
    with replacing(folder / WEIGHTS) as weights, replacing(folder / CARD) as described:
        weights.write_bytes(blob)
        described.write_text(json.dumps(known, indent=2))
    return folder


def fingerprint(state: dict[str, Tensor]) -> str:
    """SHA-256 of all names and values of a state dict."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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
        CheckpointError: If there is no checkpoint at ``path`` or its card cannot be read.
    """
    folder = encoder_folder(path)
    try:
        with safe_open(folder / WEIGHTS, "pt") as weights:
            carried = json.loads((weights.metadata() or {})["card"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{folder / WEIGHTS}: damaged, or not written by geo3d ({error}); save it again"
        ) from None
    try:
        card = json.loads((folder / CARD).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / CARD}: cannot be read ({error}); save the encoder again") from None
    if not isinstance(card, dict) or not {"class", "keywords", "sha256"} <= card.keys():
        raise CheckpointError(
            f"{folder / CARD}: expected the keys class, keywords and sha256; is it an encoder's card?"
        )
    return card if card["sha256"] == carried["sha256"] else carried


def build_encoder(card: dict[str, Any]) -> nn.Module:
    """A freshly initialised encoder of the class and with the keywords that the card names."""
    name = card["class"]
    if name not in encoders.__all__:
        near = difflib.get_close_matches(str(name), encoders.__all__, 1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(encoders.__all__)}"
        raise CheckpointError(f"the checkpoint holds a {name}, which this geo3d does not know; {hint}")
    try:
        return getattr(encoders, name)(**card["keywords"])
    except TypeError as error:
        raise CheckpointError(f"the checkpoint's keywords do not fit {name}: {error}") from None


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
    encoder = build_encoder(card)
    state = safetensors.torch.load_file(folder / WEIGHTS)
    if fingerprint(state) != card["sha256"]:
        raise CheckpointError(f"{folder / WEIGHTS}: damaged: not the weights that were saved; save the encoder again")
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{folder / WEIGHTS}: the weights do not fit {card['class']}: {first}") from None
    return encoder.eval()
