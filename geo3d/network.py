"""A whole network for points: encoder, decoder and head."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch_geometric.data import Data

from geo3d.cloud import Features, Layout, as_batch, layout_of
from geo3d.decoders import GlobalConcat
from geo3d.errors import ConfigError
from geo3d.nn.describe import graph_of
from geo3d.nn.graph import Op


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

    @property
    def in_channels(self) -> int:
        """Input channels of the points, coordinates first."""
        return int(self.encoder.in_channels)  # type: ignore[arg-type]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The fields that the encoder reads beside the coordinates, if it names them."""
        return tuple(getattr(self.encoder, "inputs", ()))

    def forward(self, data: Data) -> Tensor:
        """(M, classes) logits; a head or decoder with categories reads the category of each cloud from ``y`` (B,)."""
        batch = as_batch(data)
        return point_logits(self.decoder, self.head, self.encoder(batch), batch.get("y"), layout_of(batch))

    @property
    def categories(self) -> int:
        """How many categories of clouds the head or the decoder is told; 0 if none."""
        return int(self.head.categories or getattr(self.decoder, "categories", 0))

    def layer_graph(self) -> tuple[Op, ...]:
        """The operations of the three parts, each under its name, see :mod:`geo3d.nn.graph`; the last is ``logits``.

        Raises:
            ConfigError: If a part does not describe itself, or the decoder reads a value that the encoder's graph does
                not have.
        """
        of_encoder = graph_of(self.encoder, "network")
        ops = [_under("encoder", op, {}) for op in of_encoder]
        values = _features(self.encoder, of_encoder)
        for part, module in (("decoder", self.decoder), ("head", self.head)):
            read = dict(values)
            for op in graph_of(module, "network"):
                if op.kind == "input" and op.path == "levels.0.x" and values[op.path] == "decoder.input":
                    ops.append(Op("concat", "decoder.input", ("pos", "x")))
                elif op.kind == "input" and op.path not in read and op.path != "y":
                    kind = type(self.encoder).__name__
                    raise ConfigError(f"{part}: reads {op.path}, which the layer_graph of {kind} does not have")
                elif op.kind != "input" or (op.path == "y" and all(other.path != "y" for other in ops)):
                    ops.append(_under(part, op, read))
            values["rows"] = "decoder.rows"
        return (*ops, Op("concat", "logits", ("head.logits",)))


def _under(part: str, op: Op, read: Mapping[str, str]) -> Op:
    """The operation with the names that it has in the whole network; ``read`` holds those from other parts."""

    def name(path: str) -> str:
        return read.get(path) or (path if path in ("pos", "x", "y") else f"{part}.{path}")

    sources = tuple(name(source) for source in op.sources)
    own = op.path if op.path in ("pos", "x", "y") else f"{part}.{op.path}"
    return op._replace(path=own, sources=sources, norm=f"{part}.{op.norm}" if op.norm else "")


def _features(encoder: nn.Module, ops: Sequence[Op]) -> dict[str, str]:
    """What a decoder may read of an encoder -> its name in the whole network."""
    inputs = [op.path for op in ops if op.kind == "input"]
    values = {"point": "encoder.point", "cloud": "encoder.cloud", "levels.0.pos": "pos"}
    values["levels.0.x"] = "decoder.input" if "x" in inputs else "pos"
    paths, centers = {op.path for op in ops}, [op.path for op in ops if op.kind == "farthest"]
    for i, center in enumerate(centers):
        if f"levels.{i}" in paths:
            values |= {f"levels.{i + 1}.pos": f"encoder.{center}", f"levels.{i + 1}.x": f"encoder.levels.{i}"}
    return values


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
