"""How a network describes itself: the operations between its inputs and its results, in the order of the data.

A network with a method ``layer_graph() -> tuple[Op, ...]`` can be compressed, counted, compiled and exported. Nothing
else about its class is looked at. :func:`geo3d.nn.evaluate.evaluate` computes the graph operation by operation: compare
its results with the network's own to test that the graph is right.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from torch import nn

Kind = Literal[
    "input", "dense", "edge", "pairs", "group", "neighbors", "columns", "farthest", "matmul", "concat", "max", "mean",
    "expand", "interpolate",
]  # fmt: skip
WEIGHTED = ("dense", "edge", "group", "pairs")
"""Kinds that have a linear layer; the operation's ``path`` is the path of that layer."""


class Op(NamedTuple):
    """One operation.

    ====================  ===========================================  ==============================================
    kind                  sources                                      value
    ====================  ===========================================  ==============================================
    ``input``             none; ``number`` channels                    an input of the network
    ``dense``             rows                                         linear layer, norm and activation on each row
    ``edge``              rows, neighbors                              a whole :class:`geo3d.nn.edge_conv.EdgeConv`:
                                                                       linear layer, norm, LeakyReLU, then the
                                                                       maximum over the neighbours
    ``pairs``             rows, neighbors                              linear layer, norm and activation on the ``k``
                                                                       rows ``[x_j - x_i ; x_i]`` of each row i
    ``group``             positions, centers, maybe features           linear layer, norm and activation on the rows
                                                                       ``[p_j - c_i ; f_j]`` in a ball of ``radius``
    ``neighbors``         rows                                         (M, k) the nearest rows of the same cloud
    ``columns``           rows                                         ``number`` columns from ``first`` on
    ``farthest``          positions                                    positions of ``number`` farthest points
    ``matmul``            rows, matrices (one row per cloud)           each row times (I + its cloud's matrix)
    ``concat``            any, over the same rows                      the sources side by side
    ``max``, ``mean``     rows                                         one row per ball if the rows lie in balls,
                                                                       else one row per cloud
    ``expand``            one row per cloud, rows                      the cloud's row, repeated for each of the rows
    ``interpolate``       rows of centers, centers, positions          weighted mean of the k nearest centers' rows
    ====================  ===========================================  ==============================================

    The values ``point`` and ``cloud`` of an encoder are its features. The positions of its level i + 1 are its i-th
    ``farthest``, and the features there are the value ``levels.i``. A head reads ``cloud``, or ``rows`` and maybe ``y``
    (the category of each cloud, one-hot), and ends in ``logits``. A decoder reads ``point``, ``cloud`` and
    ``levels.0.pos``, ``levels.0.x``, ..., and ends in ``rows``.
    """

    kind: Kind
    path: str
    """Name of the value. For ``dense``, ``edge``, ``pairs`` and ``group`` it is the path of the operation's ``Linear``
    in the network, with or without a norm; for ``edge`` that of the ``Linear`` inside the ``EdgeConv``."""
    sources: tuple[str, ...] = ()
    """Names of the values that the operation reads."""
    norm: str = ""
    """Path of the BatchNorm after the linear layer; empty if there is none."""
    slope: float | None = None
    """Slope of the LeakyReLU after the norm; 0 means ReLU, None means no activation."""
    k: int = 0
    """Neighbours per row, for ``neighbors``, ``pairs``, ``group`` and ``interpolate``."""
    radius: float = 0.0
    """Radius of the balls of a ``group``."""
    number: int = 0
    """Channels of an ``input`` or of ``columns``, or how many points ``farthest`` takes from each cloud."""
    first: int = 0
    """The first of the ``columns``."""
    start: str = "first"
    """Which point ``farthest`` takes first, see :func:`geo3d.ops.search.farthest.farthest_points`."""


class Source(NamedTuple):
    """Successive columns of a layer's input that come from the same place."""

    of: str | int
    """Name of the layer whose outputs they are; if they are inputs of the network, how many columns there are."""
    rows: float
    """How many rows of each cloud have these columns multiplied by the layer's weight."""


class Layer(NamedTuple):
    """A linear layer, its norm, and the layers it reads from, with operations without weights skipped."""

    name: str
    norm: str
    sources: tuple[Source, ...]
    slope: float
    """Slope of the activation for negative values: 0 for a ReLU, 1 if there is no activation."""
    halves: bool = False
    """Whether the weight has two halves that multiply the same input columns, as in an edge convolution."""
    output: bool = False
    """Whether the layer's outputs are the cloud features."""


def layers_of(ops: Sequence[Op], num_points: int | None = None) -> list[Layer]:
    """The layers with weights, in the order of the data.

    Args:
        ops: A graph.
        num_points: Points of a cloud, from which the rows are counted; by default twice the largest number that a
            ``farthest`` takes, or 1 if there is none.
    """
    by_name = {op.path: op for op in ops}
    if num_points is None:
        num_points = 2 * max((op.number for op in ops if op.kind == "farthest"), default=0) or 1
    rows = rows_of(ops, num_points)
    ends = reads(by_name, "cloud") if "cloud" in by_name and by_name["cloud"].kind != "input" else []
    layers = []
    for op in ops:
        if op.kind not in WEIGHTED:
            continue
        if op.kind == "group":  # features are multiplied once per point, coordinates once per neighbour
            features = [Source(of, rows[name]) for name in op.sources[2:] for of in reads(by_name, name)]
            sources = (Source(3, rows[op.path]), *features)
        else:  # of pairs, both halves of the weight are multiplied once per point
            count = rows[op.sources[0] if op.kind == "pairs" else op.path]
            sources = tuple(Source(of, count) for of in reads(by_name, op.sources[0]))
        slope = 1.0 if op.slope is None else op.slope
        layers.append(Layer(op.path, op.norm, sources, slope, op.kind in ("edge", "pairs"), op.path in ends))
    return layers


def reads(by_name: Mapping[str, Op], name: str) -> list[str | int]:
    """The layers whose outputs make up a value, in the order of its channels; a channel count for a network input."""
    op = by_name[name]
    if op.kind == "input":
        return [op.number]
    if op.kind == "farthest":
        return [3]
    if op.kind in WEIGHTED:
        return [op.path]
    sources = op.sources if op.kind == "concat" else op.sources[:1]
    return [of for source in sources for of in reads(by_name, source)]


def rows_of(ops: Sequence[Op], num_points: int) -> dict[str, int]:
    """How many rows each value has for one cloud of ``num_points``."""
    rows: dict[str, int] = {}
    balls = grouped(ops)
    for op in ops:
        first = rows[op.sources[0]] if op.sources else 0
        if op.kind == "input":
            rows[op.path] = 1 if op.path in ("cloud", "y") else num_points
        elif op.kind == "farthest":
            rows[op.path] = min(op.number, first)
        elif op.kind in ("group", "pairs"):
            rows[op.path] = rows[centers_of(op)] * op.k
        elif op.kind in ("max", "mean"):
            ball = balls[op.sources[0]]
            rows[op.path] = 1 if ball is None else rows[centers_of(ball)]
        else:
            last = op.kind in ("expand", "interpolate")
            rows[op.path] = rows[op.sources[-1]] if last else first
    return rows


def widths_of(ops: Sequence[Op], module: nn.Module) -> dict[str, int]:
    """How many channels each value has; for the table of a ``neighbors`` operation, how many neighbours per row."""
    widths: dict[str, int] = {}
    for op in ops:
        if op.kind in WEIGHTED:
            widths[op.path] = len(module.get_submodule(op.path).weight)  # type: ignore[arg-type]
        elif op.kind == "concat":
            widths[op.path] = sum(widths[source] for source in op.sources)
        else:
            alone = {"input": op.number, "columns": op.number, "farthest": 3, "neighbors": op.k}
            widths[op.path] = alone[op.kind] if op.kind in alone else widths[op.sources[0]]
    return widths


def centers_of(op: Op) -> str:
    """The value whose rows have the balls of a ``group`` or the neighbours of ``pairs``."""
    return op.sources[1] if op.kind == "group" else op.sources[0]


def grouped(ops: Sequence[Op]) -> dict[str, Op | None]:
    """The ``group`` or ``pairs`` in which the rows of each value lie; None if they are points, centers or clouds."""
    balls: dict[str, Op | None] = {}
    for op in ops:
        inside = op if op.kind in ("group", "pairs") else None
        if op.kind in ("dense", "concat"):
            inside = balls[op.sources[0]]
        balls[op.path] = inside
    return balls


def leading_to(ops: Sequence[Op], wanted: Collection[str]) -> list[Op]:
    """The operations that compute the ``wanted`` values and everything these depend on, in order."""
    needed = set(wanted)
    for op in reversed(ops):
        if op.path in needed:
            needed.update(op.sources)
    return [op for op in ops if op.path in needed]


def input_layers(ops: Sequence[Op]) -> set[str]:
    """Names of the layers that read only network inputs (coordinates and extra channels); their inputs stay exact.

    A ``group`` with features is not among them, unless these are coordinates. It may read network inputs only, but its
    coordinates are the leading columns, which compression leaves alone, so that the others can be rounded. The inputs
    of heads and decoders are features, except for a category.
    """
    if any(op.kind == "input" and op.path not in ("pos", "x") for op in ops):
        return {op.path for op in ops if op.sources == ("y",) and op.kind == "dense"}
    with_features = {op.path for op in ops if op.kind == "group" and {*op.sources[2:]} - {op.sources[0]}}
    layers = [layer for layer in layers_of(ops) if layer.name not in with_features]
    return {layer.name for layer in layers if not any(isinstance(source.of, str) for source in layer.sources)}
