"""An encoder on disk: ``encoder.safetensors`` (weights) beside ``encoder.json`` (how to build it, its origin).

Compressed encoders are stored alike: the card tells what has been done to them, and rounded weights are kept as codes
of so many bits. A head and a decoder may lie beside it, in ``head.safetensors`` and ``decoder.safetensors``.
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
    """Class and keywords of an encoder; of one that wraps another (``inner``) the inner one's, too. JSON-able.

    An adaptive encoder is described by what it wraps, since a record of its compression makes the rest.

    Raises:
        CheckpointError: If the encoder is of a class that geo3d does not know.
    """
    if isinstance(encoder, compress.Adaptive):
        encoder = encoder.inner
    name = type(encoder).__name__
    if name not in encoders.__all__:
        raise CheckpointError(f"cannot save a {name}: not one of geo3d.encoders ({', '.join(encoders.__all__)})")
    inner = getattr(encoder, "inner", None)
    nested = {"inner": description(inner)} if isinstance(inner, nn.Module) else {}
    return {"class": name, "keywords": plain(keywords_of(encoder)), **nested}


def plain(keywords: dict[str, Any]) -> dict[str, Any]:
    """The keywords as JSON has them: lists instead of tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in keywords.items()}


def card_of(encoder: nn.Module) -> dict[str, Any]:
    """The part of a card that is needed to build such an encoder: :func:`description`, and what compression did."""
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
    """The folder, after the encoder has been written there; an older checkpoint stays whole if writing fails.

    Args:
        encoder: One of the classes in ``geo3d.encoders``.
        folder: Made if it is not there. Head and decoder of a checkpoint that was there before are removed.
        head: Written beside it, for it.
        decoder: Written beside it, for it.
        card: What else the card shall say: input convention, data, budget, metrics (JSON-able).

    Raises:
        CheckpointError: If one of them is of a class that geo3d does not know, a head or decoder does not fit the
            encoder, or the card cannot be written as JSON.
        OSError: If the files cannot be written (disk full, no permission).
    """
    described = card_of(encoder)
    state = finite_state(encoder, "encoder")
    given = {HEAD: (head, "head"), DECODER: (decoder, "decoder")}
    parts = {file: prepared(part, name) for file, (part, name) in given.items() if part is not None}
    check_fits(encoder, head, decoder)
    known = {"class": described["class"], "keywords": described["keywords"], "geo3d": geo3d.__version__, **card}
    known |= described
    known["sha256"] = fingerprint(state)
    try:
        known["card_sha256"] = card_sum(known)
    except TypeError as error:
        raise CheckpointError(f"the card can hold only what JSON has ({error}); leave it out") from None
    blobs = {file: as_bytes(*part, known["sha256"]) for file, part in parts.items()}
    # The weights carry the card, too: whoever is killed between the renames below leaves a readable checkpoint.
    blobs[WEIGHTS] = safetensors.torch.save(state, {"card": json.dumps(known)})
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as drafts:
        for file, blob in (blobs | {CARD: json.dumps(known, indent=2).encode()}).items():
            drafts.enter_context(replacing(folder / file)).write_bytes(blob)
    for file in given.keys() - parts.keys():
        (folder / file).unlink(missing_ok=True)  # of the checkpoint that was there before
    return folder


def build_encoder(card: dict[str, Any]) -> nn.Module:
    """A freshly initialised encoder of the class and with the keywords that the card names, not compressed."""
    kinds = {"class": str, "keywords": dict}
    if not isinstance(card, dict) or not all(isinstance(card.get(key), kind) for key, kind in kinds.items()):
        raise CheckpointError("an encoder's card needs a class and its keywords; one of a wrapper's is damaged")
    name = card["class"]
    if name not in encoders.__all__:
        hint = did_you_mean(name, encoders.__all__)
        raise CheckpointError(f"the checkpoint holds a {name}, which this geo3d does not know; {hint}")
    nested = {"inner": build_encoder(card["inner"])} if "inner" in card else {}
    try:
        return getattr(encoders, name)(**nested, **card["keywords"])
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
    return rebuilt(read_encoder(encoder_folder(path)), expected)


def rebuilt(stored: Stored, expected: type[nn.Module] | None = None) -> nn.Module:
    """The encoder of a file that was read; see :func:`load_encoder`."""
    card, folder = stored.card, stored.file.parent
    if expected is not None and card["class"] != expected.__name__:
        raise CheckpointError(
            f"{folder}: expected a {expected.__name__}, found a {card['class']}; give the right checkpoint"
        )
    try:
        encoder = compress.rebuild(build_encoder(card), card.get("compression", []))
    except Exception as error:  # a record may say anything, too
        raise CheckpointError(f"{folder / CARD}: {short(str(error) or type(error).__name__)}") from error
    return fill(encoder, stored, f"{stored.file}: the weights do not fit {card['class']}")
