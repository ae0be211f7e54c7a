"""An encoder on disk: weights in ``encoder.safetensors``, and a card in ``encoder.json``.

The card says how to build the encoder and where it comes from. Compressed encoders are stored in the same way: their
card lists the compression steps, and their quantised weights are stored as packed codes. The same folder may also hold
a head and a decoder, in ``head.safetensors`` and ``decoder.safetensors``.
"""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

import geo3d
from geo3d import compress, encoders
from geo3d.checkpoint.files import (
    CARD,
    DECODER,
    HEAD,
    WEIGHTS,
    Stored,
    card_sum,
    encoder_folder,
    fill,
    fingerprint,
    finite_state,
    read_encoder,
    short,
)
from geo3d.checkpoint.part import as_bytes, check_fits, prepared
from geo3d.errors import CheckpointError, did_you_mean
from geo3d.io.files import replacing
from geo3d.nn.keywords import keywords_of


def description(encoder: nn.Module) -> dict[str, Any]:
    """Class and keywords of an encoder, as JSON-able values.

    If the encoder wraps another one in ``inner``, the description of that one is included. For an ``Adaptive`` encoder
    only the encoder that it wraps is described, because its compression record restores the wrapper.

    Raises:
        CheckpointError: If the encoder is of a class that is not in ``geo3d.encoders``.
    """
    if isinstance(encoder, compress.Adaptive):
        encoder = encoder.inner
    name = type(encoder).__name__
    if name not in encoders.__all__ or getattr(encoders, name) is not type(encoder):  # another class may have the name
        known, room = ", ".join(encoders.__all__), type(encoder).__module__
        raise CheckpointError(f"cannot save a {room}.{name}: not one of geo3d.encoders ({known})")
    inner = getattr(encoder, "inner", None)
    nested = {"inner": card_of(inner)} if isinstance(inner, nn.Module) else {}
    return {"class": name, "keywords": plain(keywords_of(encoder)), **nested}


def plain(keywords: dict[str, Any]) -> dict[str, Any]:
    """The keywords with tuples replaced by lists, as JSON stores them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in keywords.items()}


def card_of(encoder: nn.Module) -> dict[str, Any]:
    """The part of a card from which the encoder can be rebuilt: :func:`description` and the compression records."""
    steps = compress.records(encoder)
    return description(encoder) | ({"compression": steps} if steps else {})


def save_encoder(
    encoder: nn.Module,
    folder: str | Path,
    *,
    head: nn.Module | None = None,
    decoder: nn.Module | None = None,
    **card: Any,
) -> Path:
    """The folder, after the encoder has been written there; if writing fails, an older checkpoint there stays intact.

    Args:
        encoder: One of the classes in ``geo3d.encoders``.
        folder: Created if it does not exist. Head and decoder of an older checkpoint there are removed.
        head: Saved beside the encoder, as the head that belongs to it.
        decoder: Saved beside the encoder, as the decoder that belongs to it.
        card: Further entries of the card, such as input convention, data, budget and metrics (JSON-able).

    Raises:
        CheckpointError: If encoder, head or decoder is of a class that geo3d does not know or has NaN or infinite
            weights, head or decoder does not fit the encoder, or the card cannot be written as JSON.
        OSError: If the files cannot be written (disk full, no permission).
    """
    described = card_of(encoder)
    state = finite_state(encoder, "encoder")
    modules = {HEAD: (head, "head"), DECODER: (decoder, "decoder")}
    parts = {file: prepared(part, name) for file, (part, name) in modules.items() if part is not None}
    check_fits(encoder, head, decoder)
    entries = {"class": described["class"], "keywords": described["keywords"], "geo3d": geo3d.__version__, **card}
    entries |= described
    entries["sha256"] = fingerprint(state)
    try:
        entries["card_sha256"] = card_sum(entries)
    except TypeError as error:
        raise CheckpointError(f"the card can hold only what JSON has ({error}); leave it out") from None
    blobs = {file: as_bytes(*part, entries["sha256"]) for file, part in parts.items()}
    # The weights carry a copy of the card: if the process is killed between the renames, the encoder can still be read.
    blobs[WEIGHTS] = safetensors.torch.save(state, {"card": json.dumps(entries)})
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as drafts:
        for file, blob in (blobs | {CARD: json.dumps(entries, indent=2).encode()}).items():
            drafts.enter_context(replacing(folder / file)).write_bytes(blob)
    for file in modules.keys() - parts.keys():
        (folder / file).unlink(missing_ok=True)  # of the checkpoint that was there before
    return folder


def build_encoder(card: dict[str, Any], compressed: bool = False) -> nn.Module:
    """A freshly initialised encoder of the class and with the keywords that the card names.

    Args:
        card: The card of the encoder.
        compressed: Whether to take the compression steps of the card, and of those of the encoders inside.

    Raises:
        CheckpointError: If the card has no class or keywords, the class is unknown or does not take the keywords.
    """
    kinds = {"class": str, "keywords": dict}
    if not isinstance(card, dict) or not all(isinstance(card.get(key), kind) for key, kind in kinds.items()):
        raise CheckpointError("an encoder's card needs a class and its keywords; one of a wrapper's is damaged")
    name = card["class"]
    if name not in encoders.__all__:
        hint = did_you_mean(name, encoders.__all__)
        raise CheckpointError(f"the checkpoint holds a {name}, which this geo3d does not know; {hint}")
    nested = {"inner": build_encoder(card["inner"], compressed)} if "inner" in card else {}
    try:
        encoder = getattr(encoders, name)(**nested, **card["keywords"])
    except Exception as error:  # a card may hold any values, so constructors may raise anything
        raise CheckpointError(f"the checkpoint's keywords do not fit {name}: {short(str(error))}") from error
    return compress.rebuild(encoder, card.get("compression", [])) if compressed else encoder


def load_encoder(path: str | Path, expected: type[nn.Module] | None = None) -> nn.Module:
    """The encoder saved at ``path``, in evaluation mode; loading never unpickles anything.

    Args:
        path: A folder written by :func:`save_encoder`, or a run folder in which that folder is named ``encoder``.
        expected: The class that the encoder must have; None accepts every class.

    Raises:
        CheckpointError: If there is no checkpoint, it is damaged, or its encoder is of another class.
    """
    return rebuilt(read_encoder(encoder_folder(path)), expected)


def rebuilt(stored: Stored, expected: type[nn.Module] | None = None) -> nn.Module:
    """The encoder built from a card and weights that were read, in evaluation mode; see :func:`load_encoder`."""
    card, folder = stored.card, stored.file.parent
    if expected is not None and card["class"] != expected.__name__:
        raise CheckpointError(
            f"{folder}: expected a {expected.__name__}, found a {card['class']}; give a checkpoint of that class"
        )
    try:
        encoder = build_encoder(card, compressed=True)
    except Exception as error:  # a compression record may hold any values, too
        raise CheckpointError(f"{folder / CARD}: {short(str(error) or type(error).__name__)}") from error
    return fill(encoder, stored, f"{stored.file}: the weights do not fit {card['class']}")
