"""Encoders as ONNX graphs, and the inputs of these graphs.

Inputs are ``pos (B, N, 3)``, and ``x (B, N, in_channels - 3)`` for encoders with more channels. With
``neighbors="inputs"`` the results of all searches are inputs too, as indices within each cloud:

- ``idx_0, idx_1, ... (B, N, k)``: the neighbours of each point, one table for each search of neighbours;
- ``centers_l (B, n)``: the points that are the centres of level l of set abstraction;
- ``idx_l_s (B, n, k)``: the points (at level 0) or the centres of the level before (at later levels) in the ball around
  each centre of level l, for scale s;
- ``nearest (B, N, 3)`` and ``weight (B, N, 3)``: the centres of the last level nearest to each point, and their
  weights.

Outputs are ``point (B, N, C)`` and ``cloud (B, D)``. A whole network (:class:`geo3d.network.PointNetwork`) has the
output ``logits (B, N, classes)`` instead, and the input ``y (B,)``, the category of each cloud, if its head reads one.
Its decoder's searches are ``nearest``, ``weight``, ``nearest_1``, ``weight_1``, ..., in the order of its steps: the
three rows of the coarser level nearest to each row of the finer one.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geo3d.cloud import layout_of
from geo3d.deploy.onnx import layers
from geo3d.deploy.onnx.graph import Graph
from geo3d.encoders.inputs import encoder_inputs, input_batch
from geo3d.errors import CloudError, ConfigError
from geo3d.network import PointNetwork
from geo3d.nn.describe import graph_of
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.evaluate import Value, balls, evaluate, nearest_centers
from geo3d.nn.graph import Op, grouped, leading_to, widths_of
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm

Sizes = tuple[int | str, int | str]


class Drawing:
    """The state while an encoder's operations are added to an ONNX graph one after another.

    Args:
        graph: The ONNX graph to add to.
        encoder: The encoder.
        ops: Its operations.
        sizes: The numbers of clouds and of points per cloud; a name where the number is free.
        inside: Whether neighbours are searched inside the graph.
    """

    def __init__(self, graph: Graph, encoder: nn.Module, ops: Sequence[Op], sizes: Sizes, inside: bool) -> None:
        self.graph, self.encoder, self.sizes, self.inside = graph, encoder, sizes, inside
        self.ops = {op.path: op for op in ops}
        self.tables = tables_of(ops)
        self.balls = grouped(ops)
        self.readers = Counter(source for op in ops for source in op.sources)
        self.readers.update(outputs_of(encoder))  # whoever runs the file reads its outputs
        self.behind_maximum: dict[str, float] = {}
        """By path of an operation: the slope of its activation, which is applied after the maximum, on fewer values."""
        tops = {op.sources[0] for op in ops if op.kind == "max"}
        self.late = {op.path for op in ops if op.path in tops and self.readers[op.path] == 1}
        self.names: dict[str, str] = {}

    def layer(self, op: Op) -> tuple[Linear, BatchNorm | None]:
        """The linear layer of an operation, and its norm."""
        linear = self.encoder.get_submodule(op.path)
        norm = self.encoder.get_submodule(op.norm) if op.norm else None
        assert isinstance(linear, Linear) and isinstance(norm, BatchNorm | None)
        return linear, norm

    def number(self, centers: str) -> int | str:
        """How many points ``farthest`` takes: a number, or a name if the size of the clouds is free."""
        points = self.sizes[1]
        return self.tables[centers] if isinstance(points, str) else min(self.ops[centers].number, points)

    def activated(self, op: Op, y: str) -> str:
        """The value after its activation; if only a maximum reads it, the activation is left to the maximum."""
        if op.path in self.late and op.slope is not None:
            self.behind_maximum[op.path] = op.slope
            return y
        return y if op.slope is None else _activation(self.graph, y, op.slope)


def _activation(graph: Graph, y: str, slope: float) -> str:
    return graph.op("LeakyRelu", y, alpha=float(slope)) if slope else graph.op("Relu", y)


def _input(at: Drawing, op: Op) -> str:
    if op.path == "y":
        number = at.graph.input("y", np.int64, [at.sizes[0]])
        return at.graph.op("OneHot", number, np.array(op.number), np.array([0, 1], np.float32))
    return at.graph.input(op.path, np.float32, [*at.sizes, op.number])


def _dense(at: Drawing, op: Op, x: str) -> str:
    linear, norm = at.layer(op)
    return at.activated(op, layers.affine(at.graph, x, linear, norm))


def _edge(at: Drawing, op: Op, x: str, neighbors: str) -> str:
    layer = at.encoder.get_submodule(op.path.rpartition(".")[0])
    assert isinstance(layer, EdgeConv)
    return layers.edge_conv(at.graph, x, layer, neighbors, at.ops[op.sources[1]].k)


def _pairs(at: Drawing, op: Op, x: str, neighbors: str) -> str:
    linear, norm = at.layer(op)
    if norm is None:
        raise ConfigError(f"{op.path}: pairs without a norm behind them have no ONNX form; give them one")
    return at.activated(op, layers.pairs(at.graph, linear, norm, x, neighbors))


def _columns(at: Drawing, op: Op, x: str) -> str:
    ends = (np.array([value]) for value in (op.first, op.first + op.number, -1))
    return at.graph.op("Slice", x, *ends)


def _group(at: Drawing, op: Op, pos: str, centers: str, *features: str) -> str:
    linear, norm = at.layer(op)
    neighbors = at.graph.input(at.tables[op.path], np.int64, [at.sizes[0], at.number(op.sources[1]), op.k])
    if norm is None:
        raise ConfigError(f"{op.path}: a group without a norm behind it has no ONNX form; give it one")
    x = _side_by_side(at.graph, features) if features else None
    return at.activated(op, layers.grouped(at.graph, linear, norm, pos, x, centers, neighbors))


def _neighbors(at: Drawing, op: Op, x: str) -> str:
    if at.inside:
        return layers.nearest(at.graph, x, op.k)
    return at.graph.input(at.tables[op.path], np.int64, [*at.sizes, op.k])


def _farthest(at: Drawing, op: Op, pos: str) -> str:
    if at.inside:
        raise ConfigError(
            f"ONNX has no farthest point sampling and no ball query; export a {type(at.encoder).__name__} with "
            "neighbors=inputs"
        )
    picked = at.graph.input(at.tables[op.path], np.int64, [at.sizes[0], at.number(op.path)])
    root = at.names[root_of(at.ops, op)]
    return at.graph.op("GatherND", root, at.graph.op("Unsqueeze", picked, np.array([-1])), batch_dims=1)


def _expand(at: Drawing, op: Op, clouds: str, rows: str) -> str:
    shape = at.graph.op("Concat", at.graph.op("Shape", rows, start=0, end=2), np.array([1]), axis=0)
    return at.graph.op("Expand", at.graph.op("Unsqueeze", clouds, np.array([1])), shape)


def _matmul(at: Drawing, op: Op, rows: str, matrices: str) -> str:
    size = len(at.encoder.get_submodule(op.sources[1]).weight) ** 0.5  # type: ignore[arg-type]
    square = at.graph.op("Reshape", matrices, np.array([-1, round(size), round(size)]))
    return at.graph.op("MatMul", rows, at.graph.op("Add", square, np.eye(round(size), dtype=np.float32)))


def _side_by_side(graph: Graph, parts: Sequence[str]) -> str:
    return graph.op("Concat", *parts, axis=-1) if len(parts) > 1 else parts[0]


def _axis(at: Drawing, op: Op) -> int:
    """The axis of the rows that are reduced: those of a ball, or those of a cloud."""
    return 1 if at.balls[op.sources[0]] is None else 2


def _maximum(at: Drawing, op: Op, x: str) -> str:
    top = layers.maximum(at.graph, x, _axis(at, op))
    slope = at.behind_maximum.get(op.sources[0])
    return top if slope is None else _activation(at.graph, top, slope)


def _interpolate(at: Drawing, op: Op, features: str, centers: str, pos: str) -> str:
    name = at.tables[op.path]
    count = at.sizes[1] if at.ops[op.sources[2]].kind == "input" else at.number(op.sources[2])
    near = at.graph.input(name, np.int64, [at.sizes[0], count, 3])
    weight = at.graph.input(name.replace("nearest", "weight"), np.float32, [at.sizes[0], count, 3])
    weights = at.graph.op("Unsqueeze", weight, np.array([-1]))
    rows = layers.gathered(at.graph, features, near)
    return at.graph.op("ReduceSum", at.graph.op("Mul", rows, weights), np.array([2]), keepdims=0)


DRAW: dict[str, Callable[..., str]] = {
    "input": _input,
    "dense": _dense,
    "edge": _edge,
    "pairs": _pairs,
    "columns": _columns,
    "group": _group,
    "neighbors": _neighbors,
    "farthest": _farthest,
    "matmul": _matmul,
    "concat": lambda at, op, *parts: _side_by_side(at.graph, parts),
    "max": _maximum,
    "mean": lambda at, op, x: layers.mean(at.graph, x, _axis(at, op)),
    "expand": _expand,
    "interpolate": _interpolate,
}


def build(graph: Graph, encoder: nn.Module, sizes: Sizes, inside: bool) -> None:
    """Add a whole encoder to the graph, with inputs and outputs.

    Raises:
        ConfigError: If the encoder does not describe itself, is adaptive, or needs a search that ONNX does not have.
    """
    if hasattr(encoder, "settings"):
        raise ConfigError(
            f"{type(encoder).__name__} cannot be exported; export one of its sub-networks, encoder.subnet(setting)"
        )
    ops = drawn(encoder)
    at = Drawing(graph, encoder, ops, sizes, inside)
    for op in ops:
        with graph.scope(op.path):
            at.names[op.path] = DRAW[op.kind](at, op, *(at.names[source] for source in op.sources))
    widths = widths_of(ops, encoder)
    for name in outputs_of(encoder):
        rows = sizes[:1] if name == "cloud" else sizes
        graph.output(name, at.names[name], np.float32, [*rows, widths[name]])


def outputs_of(encoder: nn.Module) -> tuple[str, ...]:
    """The names of the outputs: the features of an encoder, or the logits of a whole network."""
    return ("logits",) if isinstance(encoder, PointNetwork) else ("point", "cloud")


def drawn(encoder: nn.Module) -> list[Op]:
    """The operations that the outputs depend on; a decoder need not read everything that its encoder computes."""
    return leading_to(graph_of(encoder, "export to ONNX"), outputs_of(encoder))


def tables_of(ops: Sequence[Op]) -> dict[str, str]:
    """The name of the graph input that can replace each search, by path of the search."""
    names: dict[str, str] = {}
    scales: Counter[str] = Counter()
    levels = [op.path for op in ops if op.kind == "farthest"]
    for op in ops:
        if op.kind == "neighbors":
            names[op.path] = f"idx_{sum(name.startswith('idx_') for name in names.values())}"
        elif op.kind == "farthest":
            names[op.path] = f"centers_{levels.index(op.path)}"
        elif op.kind == "group":
            centers = op.sources[1]
            names[op.path] = f"idx_{levels.index(centers)}_{scales[centers]}"
            scales[centers] += 1
        elif op.kind == "interpolate":
            number = sum(name.startswith("nearest") for name in names.values())
            names[op.path] = f"nearest_{number}" if number else "nearest"
    return names


def root_of(ops: Mapping[str, Op], op: Op) -> str:
    """The path of the value from which a chain of ``farthest`` operations takes its points."""
    while op.kind == "farthest":
        op = ops[op.sources[0]]
    return op.path


@torch.no_grad()
def onnx_inputs(encoder: nn.Module, data: Data, neighbors: str = "inside") -> dict[str, np.ndarray[Any, Any]]:
    """The inputs of an encoder's graph for these clouds, by name.

    With ``neighbors="inputs"`` geo3d's operators compute the tables. A search among features first runs the layers that
    compute these features.

    Args:
        encoder: The encoder that was exported.
        data: Clouds of one size.
        neighbors: The option that the encoder was exported with.

    Raises:
        CloudError: If the clouds are not of one size.
    """
    batch = input_batch(data)
    layout = layout_of(batch)
    size = layout.size
    if size is None:
        raise CloudError("an exported encoder takes clouds of one size; sample them to the same number of points")
    clouds = len(batch.ptr) - 1
    x = encoder_inputs(batch, encoder)
    tensors: dict[str, Tensor] = {"pos": x[:, :3].view(clouds, size, 3)}
    if x.shape[1] > 3:
        tensors["x"] = x[:, 3:].view(clouds, size, -1)
    if isinstance(encoder, PointNetwork) and encoder.categories:
        tensors["y"] = categories_of(encoder, data)
    if neighbors == "inputs":
        tensors |= _searched(encoder, {"pos": Value(batch.pos, layout), "x": Value(x[:, 3:], layout)})
    return {name: np.ascontiguousarray(value.cpu().numpy()) for name, value in tensors.items()}


def categories_of(network: PointNetwork, data: Data) -> Tensor:
    """(B,) int64 category of each cloud.

    Raises:
        CloudError: If the clouds have none, or one is out of range.
    """
    y, count = data.get("y"), network.categories
    if y is None or not bool(((y >= 0) & (y < count)).all()):
        value = "none" if y is None else y.tolist()[:9]
        raise CloudError(f"y: expected the category of each cloud, from 0 to {count - 1}; found {value}")
    return y.long()


def _searched(encoder: nn.Module, inputs: Mapping[str, Value]) -> dict[str, Tensor]:
    """The results of all searches of an encoder, by name of the graph input, as indices within each cloud."""
    ops = drawn(encoder)
    by_name, names = {op.path: op for op in ops}, tables_of(ops)
    values = evaluate(encoder, ops, inputs, [op.path for op in ops if op.kind in ("neighbors", "farthest")])
    tables: dict[str, Tensor] = {}
    roots: dict[str, Tensor] = {}
    for op in ops:
        if op.kind == "neighbors":
            tables[names[op.path]] = _inside(values[op.path].x, values[op.sources[0]])
        elif op.kind == "farthest":
            taken, source = values[op.path].taken, by_name[op.sources[0]]
            assert taken is not None
            roots[op.path] = roots[source.path][taken] if source.kind == "farthest" else taken
            tables[names[op.path]] = _inside(roots[op.path][:, None], values[root_of(by_name, op)])[..., 0]
        elif op.kind == "group":
            pos, centers = values[op.sources[0]], values[op.sources[1]]
            tables[names[op.path]] = _inside(balls(op, pos, centers), pos)
        elif op.kind == "interpolate":
            centers, pos = values[op.sources[1]], values[op.sources[2]]
            near, weight = nearest_centers(centers, pos)
            name = names[op.path]
            tables[name] = _inside(near, centers)
            tables[name.replace("nearest", "weight")] = weight.view(len(pos.layout.ptr) - 1, -1, 3)
    return tables


def _inside(neighbors: Tensor, rows: Value) -> Tensor:
    """(B, n / B, k) indices within each cloud from flat indices (n, k) of rows."""
    first = rows.layout.ptr[:-1]
    return neighbors.view(len(first), -1, neighbors.shape[1]) - first[:, None, None]
