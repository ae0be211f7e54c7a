"""The one shape of graph that is compiled: edge convolutions one after another, then a layer pooled over the cloud."""

from collections.abc import Sequence
from typing import NamedTuple

from geo3d.errors import ConfigError
from geo3d.nn.graph import Op


class Chain(NamedTuple):
    """The parts of such a graph."""

    edges: tuple[Op, ...]
    embed: Op
    k: int
    """Neighbours per point."""
    in_channels: int
    dynamic: bool
    """Whether each edge convolution searches neighbours among its own inputs, not among the coordinates."""


def chain_of(ops: Sequence[Op]) -> Chain:
    """The parts of a graph that is a chain of edge convolutions.

    Raises:
        ConfigError: If the graph has another shape, which cannot be compiled.
    """
    by_name = {op.path: op for op in ops}
    inputs = [op for op in ops if op.kind == "input" or op.path == "input"]
    edges, dense = [op for op in ops if op.kind == "edge"], [op for op in ops if op.kind == "dense"]
    if not edges or len(dense) != 1:
        raise ConfigError(
            "only edge convolutions followed by one dense layer have a compiled form; "
            f"found {len(edges)} edge convolutions and {len(dense)} dense layers"
        )
    searches, embed = [by_name[op.sources[1]] for op in edges], dense[0]
    dynamic = len({op.path for op in searches}) > 1 or searches[0].sources != ("pos",)
    x, expected = inputs[-1].path, list(inputs)
    for i, (op, search) in enumerate(zip(edges, searches, strict=True)):
        if dynamic or i == 0:
            expected.append(Op("neighbors", search.path, (x if dynamic else "pos",), k=searches[0].k))
        expected.append(Op("edge", op.path, (x, search.path), op.norm, embed.slope))
        x = op.path
    top, middle = f"{embed.path}.max", f"{embed.path}.mean"
    expected += [
        Op("concat", "point", tuple(op.path for op in edges)),
        Op("dense", embed.path, ("point",), embed.norm, embed.slope),
        Op("max", top, (embed.path,)),
        Op("mean", middle, (embed.path,)),
        Op("concat", "cloud", (top, middle)),
    ]
    if list(ops) != expected or embed.slope is None or not embed.norm:
        raise ConfigError(
            "the operations have no compiled form: that needs edge convolutions, each on the one before, their joined "
            "outputs as point, one layer with a norm on these, and its maximum and mean joined as cloud"
        )
    in_channels = sum(op.number for op in inputs)
    return Chain(tuple(edges), embed, searches[0].k, in_channels, dynamic)
