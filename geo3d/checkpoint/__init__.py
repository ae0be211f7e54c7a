"""Encoders, heads and codes on disk: written whole, verified when they are read."""

from geo3d.checkpoint.encoder import (
    CARD,
    HEAD,
    WEIGHTS,
    build_encoder,
    card_sum,
    encoder_folder,
    fingerprint,
    keywords_of,
    load_encoder,
    load_head,
    read_card,
    save_encoder,
    save_head,
)

__all__ = [
    "CARD",
    "HEAD",
    "WEIGHTS",
    "build_encoder",
    "card_sum",
    "encoder_folder",
    "fingerprint",
    "keywords_of",
    "load_encoder",
    "load_head",
    "read_card",
    "save_encoder",
    "save_head",
]
