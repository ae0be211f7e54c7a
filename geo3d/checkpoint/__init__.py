"""Encoders, heads and decoders on disk: a write never leaves half a file, and loading verifies SHA-256 sums."""

from geo3d.checkpoint.encoder import build_encoder, card_of, description, load_encoder, save_encoder
from geo3d.checkpoint.files import CARD, DECODER, HEAD, WEIGHTS, card_sum, encoder_folder, fingerprint, read_card
from geo3d.checkpoint.open import Checkpoint, open_checkpoint
from geo3d.checkpoint.part import load_head, save_head

__all__ = [
    "CARD",
    "DECODER",
    "HEAD",
    "WEIGHTS",
    "Checkpoint",
    "build_encoder",
    "card_of",
    "card_sum",
    "description",
    "encoder_folder",
    "fingerprint",
    "load_encoder",
    "load_head",
    "open_checkpoint",
    "read_card",
    "save_encoder",
    "save_head",
]
