"""A layer graph computed operation by operation in torch: the reference for exported and compiled encoders."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear

from geo3d.cloud import Layout
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.graph import Op, leading_to
from geo3d.nn.linear import Linear
from geo3d.ops.search.ball import ball_query
from geo3d.ops.search.farthest import farthest_points
from geo3d.ops.search.knn import knn
from geo3d.ops.search.three_nearest import interpolate, three_nearest


class Value(NamedTuple):
    """The result of an operation, with the indices that it found on the way."""

    x: Tensor
    """(rows, channels) features or positions; the (rows, k) table of a ``neighbors`` operation."""
    layout: Layout
    """Which rows belong to which cloud; for rows in balls, which rows belong to which ball."""
    taken: Tensor | None = None
    """Indices into the source rows. ``farthest``: the picked rows. ``group``: (centers, k) the rows in each ball.
    ``interpolate``: (points, 3) the nearest centers."""
    weight: Tensor | None = None
    """``interpolate``: (points, 3) the weights of the nearest centers."""
    around: Layout | None = None
    """For rows in balls: which balls belong to which cloud. There is one ball per center."""


def evaluate(
    module: nn.Module, ops: Sequence[Op], inputs: Mapping[str, Value], wanted: Collection[str] | None = None
) -> dict[str, Value]:
    """The value of every operation, by name.

    Args:
        module: The network, in evaluation mode.
        ops: Its graph.
        inputs: The values of the operations of the kind ``input``.
        wanted: Names of values. Only these and the values they depend on are computed; by default all.
    """
    values: dict[str, Value] = {}
    for op in ops if wanted is None else leading_to(ops, wanted):
        sources = [values[name] for name in op.sources]
        values[op.path] = inputs[op.path] if op.kind == "input" else COMPUTE[op.kind](module, op, *sources)
    return values


def _behind(module: nn.Module, op: Op, x: Tensor) -> Tensor:
    """(rows, channels) ``x`` after the operation's norm and activation, where it has them."""
    x = module.get_submodule(op.norm)(x) if op.norm else x
    return x if op.slope is None else leaky_relu(x, op.slope)


def _dense(module: nn.Module, op: Op, rows: Value) -> Value:
    return rows._replace(x=_behind(module, op, module.get_submodule(op.path)(rows.x)))


def _edge(module: nn.Module, op: Op, rows: Value, neighbors: Value) -> Value:
    layer = module.get_submodule(op.path.rpartition(".")[0])
    assert isinstance(layer, EdgeConv)
    return Value(layer(rows.x, neighbors.x), rows.layout)


def _pairs(module: nn.Module, op: Op, rows: Value, neighbors: Value) -> Value:
    layer = module.get_submodule(op.path)
    assert isinstance(layer, Linear)
    x = layer.inputs(rows.x)
    center = x[:, None].expand(-1, neighbors.x.shape[1], -1)
    edges = torch.cat([x[neighbors.x] - center, center], 2).flatten(0, 1)
    ends = torch.arange(len(x) + 1, device=x.device) * neighbors.x.shape[1]
    values = _behind(module, op, linear(edges, layer.matrix(), layer.bias))
    return Value(values, Layout(ends, neighbors.x.shape[1]), neighbors.x, around=rows.layout)


def _columns(module: nn.Module, op: Op, rows: Value) -> Value:
    return rows._replace(x=rows.x[:, op.first : op.first + op.number].contiguous())


def _group(module: nn.Module, op: Op, pos: Value, centers: Value, *features: Value) -> Value:
    layer = module.get_submodule(op.path)
    assert isinstance(layer, Linear)
    neighbors = balls(op, pos, centers)
    edges = [pos.x[neighbors] - centers.x[:, None], *(each.x[neighbors] for each in features)]
    ends = torch.arange(len(neighbors) + 1, device=neighbors.device) * op.k
    rows = _behind(module, op, layer(torch.cat(edges, 2).flatten(0, 1)))
    return Value(rows, Layout(ends, op.k), neighbors, around=centers.layout)


def balls(op: Op, pos: Value, centers: Value) -> Tensor:
    """(centers, k) rows of ``pos`` in each ball of a ``group``."""
    return ball_query(pos.x, pos.layout, centers.x, centers.layout, op.radius, op.k)


def _neighbors(module: nn.Module, op: Op, rows: Value) -> Value:
    return Value(knn(rows.x, rows.layout, op.k), rows.layout)


def _farthest(module: nn.Module, op: Op, pos: Value) -> Value:
    ptr, size = pos.layout
    if pos.taken is not None and op.start == "first":  # the points are in picking order already: take the leading ones
        picks = ptr[:-1, None] + torch.arange(op.number, device=ptr.device)
    else:
        picks = farthest_points(pos.x, pos.layout, op.number, op.start).view(len(ptr) - 1, -1)
    sizes = ptr.diff().clamp_max(op.number)  # a small cloud has each of its points once
    index = picks[torch.arange(op.number, device=ptr.device) < sizes[:, None]]
    ends = torch.cat([ptr[:1], sizes.cumsum(0)])
    return Value(pos.x[index], Layout(ends, None if size is None else min(op.number, size)), index)


def _matmul(module: nn.Module, op: Op, rows: Value, matrices: Value) -> Value:
    size = rows.x.shape[1]
    matrix = matrices.x.view(-1, size, size) + torch.eye(size).to(matrices.x)
    cloud = torch.arange(len(matrix), device=rows.x.device).repeat_interleave(rows.layout.ptr.diff())
    return rows._replace(x=(rows.x[:, None] @ matrix[cloud])[:, 0])


def _concat(module: nn.Module, op: Op, *parts: Value) -> Value:
    return parts[0]._replace(x=torch.cat([part.x for part in parts], 1))


def _reduced(how: str) -> Any:
    def reduce(module: nn.Module, op: Op, rows: Value) -> Value:
        ptr = rows.layout.ptr
        clouds = Layout(torch.arange(len(ptr), device=ptr.device), 1)
        return Value(torch.segment_reduce(rows.x, how, offsets=ptr), rows.around or clouds)

    return reduce


def _expand(module: nn.Module, op: Op, clouds: Value, rows: Value) -> Value:
    return rows._replace(x=clouds.x.repeat_interleave(rows.layout.ptr.diff(), 0))


def _interpolate(module: nn.Module, op: Op, rows: Value, centers: Value, pos: Value) -> Value:
    index, weight = nearest_centers(centers, pos)
    return Value(interpolate(rows.x, index, weight), pos.layout, index, weight)


def nearest_centers(centers: Value, pos: Value) -> tuple[Tensor, Tensor]:
    """(points, 3) the nearest centers of each point, and (points, 3) their weights."""
    return three_nearest(pos.x, pos.layout, centers.x, centers.layout)


COMPUTE: dict[str, Any] = {
    "dense": _dense, "edge": _edge, "pairs": _pairs, "group": _group, "neighbors": _neighbors, "columns": _columns,
    "farthest": _farthest,
    "matmul": _matmul, "concat": _concat, "max": _reduced("max"), "mean": _reduced("mean"),
    "expand": _expand, "interpolate": _interpolate,
}  # fmt: skip
