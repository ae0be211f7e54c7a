"""An encoder on disk: ``encoder.safetensors`` (weights) beside ``encoder.json`` (how to build it, its origin)."""

import difflib
import hashlib
import inspect
import json
import os
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import nn

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
    blob = safetensors.torch.save(
        {key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    )
    text = json.dumps(
        {
            "class": name,
            "keywords": keywords_of(encoder),
            "geo3d": geo3d.__version__,
            "sha256": hashlib.sha256(blob).hexdigest(),
            **card,
        },
        indent=2,
    )
    with replacing(folder / WEIGHTS) as weights, replacing(folder / CARD) as described:
        weights.write_bytes(blob)
        described.write_text(text)
    return folder


def read_card(path: str | Path) -> dict[str, Any]:
    """What ``encoder.json`` says.

    Raises:
        CheckpointError: If there is no checkpoint at ``path`` or its card cannot be read.
    """
    folder = _folder(path)
    try:
        card = json.loads((folder / CARD).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / CARD}: cannot be read ({error}); save the encoder again") from None
    if not isinstance(card, dict) or not {"class", "keywords", "sha256"} <= card.keys():
        raise CheckpointError(
            f"{folder / CARD}: expected the keys class, keywords and sha256; is it an encoder's card?"
        )
    return card


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
    folder = _folder(path)
    card = read_card(folder)
    if expected is not None and card["class"] != expected.__name__:
        raise CheckpointError(
            f"{folder}: expected a {expected.__name__}, found a {card['class']}; give the right checkpoint"
        )
    encoder = build_encoder(card)
    blob = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(blob).hexdigest() != card["sha256"]:
        raise CheckpointError(
            f"{folder / WEIGHTS}: damaged or not the file that {CARD} was written with; save it again"
        )
    try:
        encoder.load_state_dict(safetensors.torch.load(blob))
    except (SafetensorError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{folder / WEIGHTS}: the weights do not fit {card['class']}: {first}") from None
    return encoder.eval()


def _folder(path: str | Path) -> Path:
    folder = Path(path)
    for candidate in (folder, folder / "encoder"):
        if (candidate / CARD).is_file() and (candidate / WEIGHTS).is_file():
            return candidate
    found = ", ".join(sorted(os.listdir(folder))[:8]) if folder.is_dir() else "no such folder"
    raise CheckpointError(
        f"{folder}: expected {WEIGHTS} and {CARD}; found {found or 'nothing'}; give the encoder's folder"
    )
