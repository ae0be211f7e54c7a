"""geo3d's encoders as ONNX graphs, and what such graphs take as inputs.

Inputs: ``pos (B, N, 3)``; ``x (B, N, in_channels - 3)`` for encoders with more channels; and with tables as inputs, all
counted inside each cloud: of DGCNN ``idx_0, idx_1, ... (B, N, k)``, one for each graph of neighbours; of PointNet++
``centers_l (B, n)``, the points that are the centres of level l, ``idx_l_s (B, n, k)``, the points (of level 0) or
centres (of the level before) in the ball around each for scale s, ``nearest (B, N, 3)`` and ``weight (B, N, 3)``, the
centres of the last level that are nearest to each point and their shares.

Outputs: ``point (B, N, C)`` and ``cloud (B, D)``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from geo3d.cloud import Layout, as_batch, common_size
from geo3d.deploy.onnx.graph import Graph
from geo3d.deploy.onnx.layers import affine, edge_conv, gathered, maximum, mean, nearest, pooled_mlp, set_abstraction
from geo3d.encoders import DGCNN, PointNet, PointNet2
from geo3d.encoders.inputs import point_inputs
from geo3d.encoders.pointnet import Transform
from geo3d.errors import CloudError, ConfigError
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm
from geo3d.nn.set_abstraction import SetAbstraction
from geo3d.ops.search.ball import ball_query
from geo3d.ops.search.farthest import farthest_points
from geo3d.ops.search.knn import knn
from geo3d.ops.search.three_nearest import three_nearest

Sizes = tuple[int | str, int | str]
Drawn = tuple[str, str]


def _points(graph: Graph, encoder: Any, sizes: Sizes) -> tuple[str, str | None]:
    pos = graph.input("pos", np.float32, [*sizes, 3])
    more = encoder.in_channels - 3
    return pos, graph.input("x", np.float32, [*sizes, more]) if more else None


def _side_by_side(graph: Graph, pos: str, x: str | None) -> str:
    return pos if x is None else graph.op("Concat", pos, x, axis=-1)


def dgcnn(graph: Graph, encoder: DGCNN, sizes: Sizes, inside: bool) -> Drawn:
    """The names of the points' and the clouds' features of a DGCNN."""
    pos, more = _points(graph, encoder, sizes)
    x = _side_by_side(graph, pos, more)
    tables: list[str] = []
    outs: list[str] = []
    for i, layer in enumerate(encoder.layers):
        assert isinstance(layer, EdgeConv)
        if encoder.dynamic or not tables:
            with graph.scope(f"neighbors.{i}"):
                from_input = x if encoder.dynamic else pos
                tables.append(
                    nearest(graph, from_input, encoder.k)
                    if inside
                    else graph.input(f"idx_{i}", np.int64, [*sizes, encoder.k])
                )
        with graph.scope(f"layers.{i}"):
            x = edge_conv(graph, x, layer, tables[-1], encoder.k)
        outs.append(x)
    point = graph.op("Concat", *outs, axis=-1) if len(outs) > 1 else x
    with graph.scope("embed"):
        assert isinstance(encoder.embed, Linear)
        y = affine(graph, point, encoder.embed, encoder.norm)
        y = graph.op("LeakyRelu", y, alpha=float(encoder.negative_slope))
        return point, graph.op("Concat", maximum(graph, y, 1), mean(graph, y), axis=-1)


def pointnet(graph: Graph, encoder: PointNet, sizes: Sizes, inside: bool) -> Drawn:
    """The names of the points' and the clouds' features of a PointNet, which has no neighbours."""
    pos, more = _points(graph, encoder, sizes)
    x = _side_by_side(graph, pos, more)
    if encoder.input_net is not None:
        with graph.scope("input_net"):
            x = _side_by_side(graph, graph.op("MatMul", pos, _transform(graph, encoder.input_net, x)), more)
    with graph.scope("local"):
        layer, norm = encoder.local
        assert isinstance(layer, Linear) and isinstance(norm, BatchNorm)
        point = graph.op("Relu", affine(graph, x, layer, norm))
    if encoder.feature_net is not None:
        with graph.scope("feature_net"):
            point = graph.op("MatMul", point, _transform(graph, encoder.feature_net, point))
    with graph.scope("pool"):
        return point, pooled_mlp(graph, encoder.pool, point, 1)


def _transform(graph: Graph, net: Transform, x: str) -> str:
    """(B, size, size) the predicted matrices."""
    y = pooled_mlp(graph, net.pool, x, 1)
    steps = list(net.head)
    for i in range(0, len(steps), 3):
        layer, norm = steps[i], steps[i + 1] if i + 1 < len(steps) else None
        assert isinstance(layer, Linear)
        y = affine(graph, y, layer, norm)  # type: ignore[arg-type]
        y = y if norm is None else graph.op("Relu", y)
    square = graph.op("Reshape", y, np.array([-1, net.size, net.size]))
    return graph.op("Add", square, np.eye(net.size, dtype=np.float32))


def pointnet2(graph: Graph, encoder: PointNet2, sizes: Sizes, inside: bool) -> Drawn:
    """The names of the points' and the clouds' features of a PointNet++.

    Raises:
        ConfigError: If its tables shall be made inside the graph.
    """
    if inside:
        raise ConfigError(
            "ONNX has no farthest point sampling and no ball query; export a PointNet2 with neighbors=inputs"
        )
    pos, features = _points(graph, encoder, sizes)
    level_pos = pos
    for i, (level, wanted) in enumerate(zip(encoder.levels, encoder.num_samples, strict=True)):
        assert isinstance(level, SetAbstraction)
        count = f"centers_{i}" if isinstance(sizes[1], str) else min(wanted, sizes[1])
        picked = graph.input(f"centers_{i}", np.int64, [sizes[0], count])
        tables = [
            graph.input(f"idx_{i}_{s}", np.int64, [sizes[0], count, k]) for s, k in enumerate(level.num_neighbors)
        ]
        with graph.scope(f"levels.{i}"):
            centers = graph.op("GatherND", pos, graph.op("Unsqueeze", picked, np.array([-1])), batch_dims=1)
            features = set_abstraction(graph, level, level_pos, features, centers, tables)
        level_pos = centers
    assert features is not None
    with graph.scope("last"):
        cloud = pooled_mlp(graph, encoder.last, graph.op("Concat", level_pos, features, axis=-1), 1)
    near = graph.input("nearest", np.int64, [*sizes, 3])
    weight = graph.input("weight", np.float32, [*sizes, 3])
    with graph.scope("interpolate"):
        shares = graph.op("Unsqueeze", weight, np.array([-1]))
        point = graph.op(
            "ReduceSum", graph.op("Mul", gathered(graph, features, near), shares), np.array([2]), keepdims=0
        )
    return point, cloud


BUILDERS: dict[type[nn.Module], Callable[[Graph, Any, Sizes, bool], Drawn]] = {
    DGCNN: dgcnn,
    PointNet: pointnet,
    PointNet2: pointnet2,
}


def build(graph: Graph, encoder: nn.Module, sizes: Sizes, inside: bool) -> None:
    """Add a whole encoder, inputs and outputs included.

    Raises:
        ConfigError: If it is none of geo3d's, or cannot be written with its tables inside.
    """
    builder = BUILDERS.get(type(encoder))
    if builder is None:
        known = ", ".join(each.__name__ for each in BUILDERS)
        hint = "; of an adaptive encoder export what at(setting) gives" if hasattr(encoder, "settings") else ""
        raise ConfigError(f"{type(encoder).__name__} cannot be exported; expected one of {known}{hint}")
    point, cloud = builder(graph, encoder, sizes, inside)
    graph.output("point", point, np.float32, [*sizes, int(encoder.point_channels)])  # type: ignore[arg-type]
    graph.output("cloud", cloud, np.float32, [sizes[0], int(encoder.cloud_channels)])  # type: ignore[arg-type]


@torch.no_grad()
def feeds(encoder: nn.Module, data: Data, neighbors: str = "inside") -> dict[str, np.ndarray[Any, Any]]:
    """The inputs, by name, of an encoder's graph for clouds of equal size.

    With ``neighbors="inputs"`` geo3d's operators make the tables. A dynamic DGCNN finds them among its own features,
    so that its layers are run on the way.

    Args:
        encoder: The encoder that was exported.
        data: Some clouds.
        neighbors: As it was exported.

    Raises:
        CloudError: If the clouds are not of one size.
    """
    batch = as_batch(data)
    size = common_size(batch)
    if size is None:
        raise CloudError("an exported encoder takes clouds of one size; sample them to the same number of points")
    clouds = len(batch.ptr) - 1
    x = point_inputs(batch, encoder.in_channels)  # type: ignore[arg-type]
    found: dict[str, Tensor] = {"pos": x[:, :3].view(clouds, size, 3)}
    if x.shape[1] > 3:
        found["x"] = x[:, 3:].view(clouds, size, -1)
    if neighbors == "inputs" and isinstance(encoder, DGCNN):
        found |= _graphs(encoder, x, batch, size)
    elif neighbors == "inputs" and isinstance(encoder, PointNet2):
        found |= _levels(encoder, batch, size)
    return {name: np.ascontiguousarray(value.cpu().numpy()) for name, value in found.items()}


def _inside(table: Tensor, ptr: Tensor, columns: Sequence[int]) -> Tensor:
    """Flat indices as (B, *columns) indices inside each cloud."""
    return table.view(len(ptr) - 1, *columns) - ptr[:-1].view(-1, *[1] * len(columns))


def _graphs(encoder: DGCNN, x: Tensor, batch: Batch, size: int) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    table = None if encoder.dynamic else knn(batch.pos, Layout(batch.ptr, size), encoder.k)
    if table is not None:
        return {"idx_0": _inside(table, batch.ptr, (size, encoder.k))}
    for i, layer in enumerate(encoder.layers):
        table = knn(x, Layout(batch.ptr, size), encoder.k)
        found[f"idx_{i}"] = _inside(table, batch.ptr, (size, encoder.k))
        if i + 1 < len(encoder.layers):
            x = layer(x, table)
    return found


def _levels(encoder: PointNet2, batch: Batch, size: int) -> dict[str, Tensor]:
    pos, ptr = batch.pos, batch.ptr
    clouds = len(ptr) - 1
    picked = farthest_points(pos, Layout(ptr, size), encoder.num_samples[0], encoder.start).view(clouds, -1)
    found: dict[str, Tensor] = {}
    level_pos, level_ptr, level_size = pos, ptr, size
    for i, (level, wanted) in enumerate(zip(encoder.levels, encoder.num_samples, strict=True)):
        assert isinstance(level, SetAbstraction)
        count = min(wanted, size)
        index, ptr_c = picked[:, :count].reshape(-1), torch.arange(clouds + 1, device=ptr.device) * count
        centers = pos[index]
        found[f"centers_{i}"] = _inside(index, ptr, (count,))
        for s, (radius, k) in enumerate(zip(level.radii, level.num_neighbors, strict=True)):
            table = ball_query(level_pos, Layout(level_ptr, level_size), centers, Layout(ptr_c, count), radius, k)
            found[f"idx_{i}_{s}"] = _inside(table, level_ptr, (count, k))
        level_pos, level_ptr, level_size = centers, ptr_c, count
    near, weight = three_nearest(pos, Layout(ptr, size), level_pos, Layout(level_ptr, level_size))
    return found | {"nearest": _inside(near, level_ptr, (size, 3)), "weight": weight.view(clouds, size, 3)}
