"""How a network describes itself: the operations between its inputs and its results, in the order of the data.

A network with a method ``layer_graph() -> tuple[Op, ...]`` can be compressed, counted, compiled and exported. Nothing
else about its class is looked at. :func:`geo3d.nn.evaluate.evaluate` computes a graph plainly, which tells whether it
speaks the truth.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from torch import nn

Kind = Literal[
    "input", "dense", "edge", "group", "neighbors", "farthest", "matmul", "concat", "max", "mean", "expand",
    "interpolate",
]  # fmt: skip
WEIGHTED = ("dense", "edge", "group")
"""Kinds that have a linear layer, whose path is the operation's name."""


class Op(NamedTuple):
    """One operation.

    ====================  ===========================================  ==============================================
    kind                  sources                                      value
    ====================  ===========================================  ==============================================
    ``input``             none; ``number`` channels                    what the network is given
    ``dense``             rows                                         linear layer, norm, activation of each row
    ``edge``              rows, neighbors                              edge convolution: the maximum over neighbours
    ``group``             positions, centers, maybe features           linear layer, norm, activation of the rows
                                                                       ``[p_j - c_i ; f_j]`` in a ball of ``radius``
    ``neighbors``         rows                                         (M, k) nearest rows of the same cloud
    ``farthest``          positions                                    positions of ``number`` farthest points
    ``matmul``            rows, matrices (one row a cloud)             each row times (I + its cloud's matrix)
    ``concat``            any, over the same rows                      side by side
    ``max``, ``mean``     rows                                         over the rows of a ball, else of a cloud
    ``expand``            one row a cloud, rows                        the cloud's row for each of the rows
    ``interpolate``       rows of centers, centers, positions          between the k nearest centers
    ====================  ===========================================  ==============================================

    The values ``point`` and ``cloud`` of an encoder are its features. A head reads ``cloud`` and ends in ``logits``. A
    decoder reads ``point``, ``cloud`` and ``levels.0.pos``, ``levels.0.x``, ..., and ends in ``rows``.
    """

    kind: Kind
    path: str
    """Name of the value. For a kind with weights: the path of its ``Linear`` in the network."""
    sources: tuple[str, ...] = ()
    norm: str = ""
    """Path of the BatchNorm behind the linear layer; empty without one."""
    slope: float | None = None
    """Of the LeakyReLU behind the norm; 0 is a ReLU, None is no activation."""
    k: int = 0
    """Neighbours a row, of ``neighbors``, ``group`` and ``interpolate``."""
    radius: float = 0.0
    """Of a ``group``."""
    number: int = 0
    """Channels of an ``input``, or points that ``farthest`` takes of each cloud."""
    start: str = "first"
    """Where ``farthest`` begins."""


class Source(NamedTuple):
    """Columns of a layer's input."""

    of: str | int
    """The layer whose outputs they are, or their number if they come from outside."""
    rows: float
    """How often each is multiplied in a cloud."""


class Layer(NamedTuple):
    """A linear layer, its norm, and what it reads through operations without weights."""

    name: str
    norm: str
    sources: tuple[Source, ...]
    slope: float
    """Of the activation behind its norm, below zero; 1 without one."""
    halves: bool = False
    """Whether its weight has two halves over the same columns: an edge convolution."""
    output: bool = False
    """Whether it makes the cloud's features."""


def layers_of(ops: Sequence[Op], num_points: int | None = None) -> list[Layer]:
    """The layers with weights, in the order of the data.

    Args:
        ops: A graph.
        num_points: Points of a cloud, for the counts; by default twice as many as ``farthest`` takes, or 1 if nothing
            depends on it.
    """
    by_name = {op.path: op for op in ops}
    if num_points is None:
        num_points = 2 * max((op.number for op in ops if op.kind == "farthest"), default=0) or 1
    rows = rows_of(ops, num_points)
    ends = reads(by_name, "cloud") if "cloud" in by_name and by_name["cloud"].kind != "input" else []
    found = []
    for op in ops:
        if op.kind not in WEIGHTED:
            continue
        if op.kind == "group":  # features are multiplied once a point, coordinates once a neighbour
            features = [Source(of, rows[name]) for name in op.sources[2:] for of in reads(by_name, name)]
            sources = (Source(3, rows[op.path]), *features)
        else:
            sources = tuple(Source(of, rows[op.path]) for of in reads(by_name, op.sources[0]))
        slope = 1.0 if op.slope is None else op.slope
        found.append(Layer(op.path, op.norm, sources, slope, op.kind == "edge", op.path in ends))
    return found


def reads(by_name: Mapping[str, Op], name: str) -> list[str | int]:
    """The layers whose outputs make a value, in the order of its channels; numbers of channels for inputs."""
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
            rows[op.path] = 1 if op.path == "cloud" else num_points
        elif op.kind == "farthest":
            rows[op.path] = min(op.number, first)
        elif op.kind == "group":
            rows[op.path] = rows[op.sources[1]] * op.k
        elif op.kind in ("max", "mean"):
            ball = balls[op.sources[0]]
            rows[op.path] = 1 if ball is None else rows[ball.sources[1]]
        else:
            last = op.kind in ("expand", "interpolate")
            rows[op.path] = rows[op.sources[-1]] if last else first
    return rows


def widths_of(ops: Sequence[Op], module: nn.Module) -> dict[str, int]:
    """How many channels each value has; neighbours a row, of a table."""
    widths: dict[str, int] = {}
    for op in ops:
        if op.kind in WEIGHTED:
            widths[op.path] = len(module.get_submodule(op.path).weight)  # type: ignore[arg-type]
        elif op.kind == "concat":
            widths[op.path] = sum(widths[source] for source in op.sources)
        else:
            alone = {"input": op.number, "farthest": 3, "neighbors": op.k}
            widths[op.path] = alone[op.kind] if op.kind in alone else widths[op.sources[0]]
    return widths


def grouped(ops: Sequence[Op]) -> dict[str, Op | None]:
    """For each value the ``group`` whose balls its rows lie in; None for rows of points, centers or clouds."""
    found: dict[str, Op | None] = {}
    for op in ops:
        inside = op if op.kind == "group" else None
        if op.kind in ("dense", "concat"):
            inside = found[op.sources[0]]
        found[op.path] = inside
    return found


def leading_to(ops: Sequence[Op], wanted: Collection[str]) -> list[Op]:
    """The operations that these values are made of, themselves included, in order."""
    needed = set(wanted)
    for op in reversed(ops):
        if op.path in needed:
            needed.update(op.sources)
    return [op for op in ops if op.path in needed]


def input_layers(ops: Sequence[Op]) -> set[str]:
    """The layers whose input holds coordinates that cannot be told from its other columns: those that stay exact.

    They read nothing but coordinates and input channels. A ``group`` with features is none of them, since compression
    leaves its three columns of coordinates alone.
    """
    if any(op.kind == "input" and op.path == "cloud" for op in ops):
        return set()  # a head
    apart = {op.path for op in ops if op.kind == "group" and len(op.sources) > 2}
    found = [one for one in layers_of(ops) if one.name not in apart]
    return {one.name for one in found if not any(isinstance(source.of, str) for source in one.sources)}
