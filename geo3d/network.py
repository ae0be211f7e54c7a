"""A whole network for points: encoder, decoder and head."""

from typing import Any

from torch import Tensor, nn
from torch_geometric.data import Data

from geo3d.cloud import as_batch, layout_of


class PointNetwork(nn.Module):
    """(M, classes) logits for the points of a batch of clouds.

    Args:
        encoder: An encoder.
        decoder: Makes a row for each point from the encoder's features, see ``geo3d.decoders``.
        head: Makes logits from the rows, see :class:`geo3d.heads.PointClassifier`.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, head: Any) -> None:
        super().__init__()
        self.encoder, self.decoder, self.head = encoder, decoder, head

    def forward(self, data: Data) -> Tensor:
        """(M, classes) logits; a head with categories reads the category of each cloud from ``y`` (B,)."""
        batch = as_batch(data)
        rows = self.decoder(self.encoder(batch))
        return self.head(rows, batch.get("y"), layout_of(batch)) if self.head.categories else self.head(rows)
