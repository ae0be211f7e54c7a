"""A head or a decoder on disk, beside the encoder that it was trained for."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from geo3d import compress, decoders, heads
from geo3d.checkpoint.files import (
    HEAD,
    card_sum,
    describing,
    encoder_folder,
    fill,
    fingerprint,
    finite_state,
    read_card,
)
from geo3d.checkpoint.files import read_part as read_file
from geo3d.errors import CheckpointError, did_you_mean
from geo3d.io.files import replacing
from geo3d.nn.keywords import keywords_of

ROOMS: dict[str, ModuleType] = {"head": heads, "decoder": decoders}
"""The module that defines the classes of each part."""


def prepared(module: nn.Module, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Card and state dict of a head or decoder; the card does not name an encoder yet.

    Args:
        module: One of the classes in ``geo3d.heads`` or ``geo3d.decoders``.
        name: ``"head"`` or ``"decoder"``.

    Raises:
        CheckpointError: If the module is of another class, or has NaN or infinite weights.
    """
    kind, known = type(module).__name__, ROOMS[name].__all__
    if kind not in known or getattr(ROOMS[name], kind) is not type(module):
        raise CheckpointError(
            f"cannot save a {type(module).__module__}.{kind}: not one of {ROOMS[name].__name__} ({', '.join(known)})"
        )
    keywords = {key: list(value) if isinstance(value, tuple) else value for key, value in keywords_of(module).items()}
    card = {"class": kind, "keywords": keywords, "compression": compress.records(module)}
    return card, finite_state(module, name)


def check_fits(encoder: nn.Module, head: nn.Module | None, decoder: nn.Module | None) -> None:
    """Check that head and decoder read as many channels as the encoder, or the decoder, gives.

    Raises:
        CheckpointError: If one of them does not.
    """
    if decoder is not None:
        for key in ("point_channels", "cloud_channels", "level_channels"):
            given = getattr(encoder, key, None)
            if (wanted := getattr(decoder, key, given)) != given:
                raise CheckpointError(
                    f"decoder: the {type(decoder).__name__} reads {key}={wanted}, but the encoder has {given}; "
                    "give the one that was trained with it"
                )
    offered = {key: getattr(encoder, key, None) for key in ("cloud_channels", "point_channels")}
    if decoder is not None:
        offered["the decoder's out_channels"] = decoder.out_channels
    if head is not None and (reads := getattr(head, "in_channels", None)) not in (None, *offered.values()):
        raise CheckpointError(
            f"head: the {type(head).__name__} reads {reads} channels, but there are "
            f"{', '.join(f'{key}={value}' for key, value in offered.items())}; give the one that was trained with it"
        )


def as_bytes(card: dict[str, Any], state: dict[str, Tensor], encoder: str) -> bytes:
    """The bytes of a safetensors file with the card and the weights of a head or decoder.

    Args:
        card: The card from :func:`prepared`.
        state: The state dict from :func:`prepared`.
        encoder: SHA-256 of the weights of the encoder that it belongs to.
    """
    card = card | {"encoder": encoder, "sha256": fingerprint(state)}
    card["card_sha256"] = card_sum(card)
    return safetensors.torch.save(state, {"card": json.dumps(card)})


def read_part(folder: Path, name: str, encoder: str) -> nn.Module | None:
    """The head or decoder in a folder, in evaluation mode; None if there is none.

    Args:
        folder: The encoder's folder.
        name: ``"head"`` or ``"decoder"``.
        encoder: SHA-256 of the encoder's weights.

    Raises:
        CheckpointError: If the file is damaged, of an unknown class, or belongs to another encoder.
    """
    file = folder / f"{name}.safetensors"
    if not file.exists():
        return None
    stored = read_file(file)
    card, room = stored.card, ROOMS[name]
    with describing(file):
        if card["class"] not in room.__all__:
            hint = did_you_mean(card["class"], room.__all__)
            raise CheckpointError(f"holds a {card['class']}, which this geo3d does not know; {hint}")
        module = compress.rebuild(getattr(room, card["class"])(**card["keywords"]), card["compression"])
    if card.get("encoder", encoder) != encoder:
        raise CheckpointError(f"{file}: belongs to another encoder than the one beside it; save the {name} again")
    return fill(module, stored, f"{file}: the weights do not fit")


def save_head(head: nn.Module, folder: str | Path) -> Path:
    """The folder, after the head has been saved there beside the encoder that it was trained for.

    Raises:
        CheckpointError: If there is no encoder in the folder, or the head is of a class that geo3d does not know or has
            NaN or infinite weights.
    """
    card, state = prepared(head, "head")
    folder = encoder_folder(folder)
    blob = as_bytes(card, state, read_card(folder)["sha256"])
    with replacing(folder / HEAD) as path:
        path.write_bytes(blob)
    return folder


def load_head(path: str | Path) -> nn.Module | None:
    """The head saved beside the encoder at ``path``, in evaluation mode; None if there is none.

    Raises:
        CheckpointError: If there is no encoder at ``path``, or the head is damaged or belongs to another encoder.
    """
    folder = encoder_folder(path)
    return read_part(folder, "head", read_card(folder)["sha256"])
