"""A whole network for points: encoder, decoder and head."""

from typing import Any

from torch import Tensor, nn
from torch_geometric.data import Data

from geo3d.cloud import Features, Layout, as_batch, layout_of
from geo3d.decoders import GlobalConcat


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
        """(M, classes) logits; a head or decoder with categories reads the category of each cloud from ``y`` (B,)."""
        batch = as_batch(data)
        return point_logits(self.decoder, self.head, self.encoder(batch), batch.get("y"), layout_of(batch))


def point_logits(decoder: Any, head: Any, features: Features, category: Tensor | None, layout: Layout) -> Tensor:
    """(M, classes) logits of points from an encoder's features.

    Behind ``GlobalConcat`` every row begins with the features of its cloud. The head's first layer then multiplies
    these once per cloud, and the rows are never made.

    Args:
        decoder: The decoder.
        head: The head.
        features: Those of the encoder.
        category: (B,) category of each cloud, for a head or decoder with categories; None for none.
        layout: Which points belong to which cloud.
    """
    if isinstance(decoder, GlobalConcat):
        return head(features.point, category, layout, features.cloud)
    return head(point_rows(decoder, features, category), category, layout)


def point_rows(decoder: Any, features: Features, category: Tensor | None) -> Tensor:
    """(M, C) rows of the points; a decoder with categories is told that of each cloud, the others read features only.

    Args:
        decoder: The decoder.
        features: Those of the encoder.
        category: (B,) category of each cloud; None for none.
    """
    return decoder(features, category) if getattr(decoder, "categories", 0) else decoder(features)


class PointRows(nn.Module):
    """The rows that an objective on points compares, before the projector.

    Args:
        encoder: The encoder.
        decoder: What makes rows for points of its features.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, batch: Data) -> Tensor:
        """(M, C) rows of the points; a decoder with categories reads the category of each cloud from ``y`` (B,)."""
        return point_rows(self.decoder, self.encoder(batch), batch.get("y"))
