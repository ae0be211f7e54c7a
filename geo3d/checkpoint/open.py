"""Everything that a command needs from a checkpoint, read in one go."""

from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from geo3d.checkpoint.encoder import rebuilt
from geo3d.checkpoint.files import encoder_folder, read_encoder
from geo3d.checkpoint.part import check_fits, read_part
from geo3d.heads import PointClassifier
from geo3d.network import PointNetwork


class Checkpoint(NamedTuple):
    """The content of a checkpoint's folder."""

    folder: Path
    card: dict[str, Any]
    encoder: nn.Module
    """In evaluation mode."""
    head: nn.Module | None
    decoder: nn.Module | None

    @property
    def network(self) -> PointNetwork | None:
        """The whole network of a segmentation, in evaluation mode; None without a decoder or a head of points."""
        if self.decoder is None or not isinstance(self.head, PointClassifier):
            return None
        return PointNetwork(self.encoder, self.decoder, self.head).eval()


def open_checkpoint(path: str | Path, expected: type[nn.Module] | None = None) -> Checkpoint:
    """Encoder, head, decoder and card saved at ``path``; every file is opened once.

    Args:
        path: A folder written by :func:`geo3d.checkpoint.save_encoder`, or a run folder in which that folder is named
            ``encoder``.
        expected: The class that the encoder must have; None accepts every class.

    Raises:
        CheckpointError: If there is no checkpoint, one of its files is damaged, head or decoder belong to another
            encoder, or the encoder is of another class than ``expected``.
    """
    folder = encoder_folder(path)
    stored = read_encoder(folder)
    encoder, sha256 = rebuilt(stored, expected), stored.card["sha256"]
    head, decoder = (read_part(folder, name, sha256) for name in ("head", "decoder"))
    check_fits(encoder, head, decoder)
    return Checkpoint(folder, stored.card, encoder, head, decoder)
