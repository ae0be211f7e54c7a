"""geo3d's layers in evaluation as ONNX nodes, for clouds of one size: values are (B, N, C), neighbour tables (B, n, k).

Norms are folded into matrices and shifts. A product that can be computed once per point is not computed per edge.
"""

import numpy as np
import torch

from geo3d.deploy.onnx.graph import Graph
from geo3d.deploy.onnx.pools import folded_in, folds, pooled
from geo3d.deploy.onnx.quantized import (
    Array,
    Entering,
    Matrix,
    array,
    codes,
    entering,
    matrix_of,
    product,
    short,
    values,
)
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm
from geo3d.ops.edge.conv import center_and_neighbor_weights

AT_ONCE = 5
"""For how many neighbours rows of floats are gathered at a time. This bounds the memory, and is twice as fast as
gathering all at once where these do not fit into the cache. Codes (bytes) are gathered one neighbour at a time, because
runtimes compare whole rows of bytes faster than they reduce them."""


def folded(norm: BatchNorm | None, bias: torch.Tensor | None, channels: int) -> tuple[Array, Array]:
    """(C,) scale and shift of ``norm(y + bias)`` with the running statistics, in double precision."""
    offset = np.zeros(channels) if bias is None else array(bias)
    if norm is None:
        return np.ones(channels), offset
    assert norm.running_mean is not None and norm.running_var is not None
    scale = array(norm.weight) / np.sqrt(array(norm.running_var) + norm.eps)
    return scale, array(norm.bias) + (offset - array(norm.running_mean)) * scale


def products(graph: Graph, x: str, layer: Linear, *matrices: Matrix) -> list[tuple[str, Array]]:
    """The :func:`product` of a layer's pooled and rounded input with each matrix; x holds no coordinates."""
    if folds(layer, sum(len(matrix.rows) for matrix in matrices)):
        return [product(graph, Entering(x), folded_in(layer.pool, matrix)) for matrix in matrices]
    x = x if layer.pool is None else pooled(graph, x, layer.pool)
    entered = entering(graph, x, layer.input_quantizer)
    return [product(graph, entered, matrix) for matrix in matrices]


def affine(graph: Graph, x: str, layer: Linear, norm: BatchNorm | None = None) -> str:
    """(..., out) ``norm(layer(x))``."""
    scale, shift = folded(norm, layer.bias, layer.out_features)
    matrix, skip = matrix_of(layer.masked(), layer.quantizer).times(scale), layer.skip
    if layer.pool is None and layer.input_quantizer is None:
        y, _ = product(graph, Entering(x), matrix)
        return graph.op("Add", y, short(shift))
    features = matrix.rows.shape[1] - skip if layer.pool is None else layer.pool.in_channels
    if skip:
        positions, x = graph.ops("Split", 2, x, np.array([skip, features]), axis=-1)
    ((y, missing),) = products(graph, x, layer, matrix.part(columns=slice(skip, None)))
    y = graph.op("Add", y, short(shift + missing))
    return graph.op("Add", y, product(graph, Entering(positions), matrix.part(columns=slice(skip)))[0]) if skip else y


def gathered(graph: Graph, rows: str, neighbors: str) -> str:
    """(B, n, k, C) rows of each cloud (B, N, C) at the indices of its table (B, n, k)."""
    return graph.op("GatherND", rows, graph.op("Unsqueeze", neighbors, np.array([-1])), batch_dims=1, name="gather")


def maximum(graph: Graph, x: str, axis: int) -> str:
    """The largest entries along an axis, which is removed.

    OpenVINO fuses a reduction with the nodes after it, and then rounds wrongly. Removing the axis in a node of its own
    keeps them apart.
    """
    return graph.op("Squeeze", graph.op("ReduceMax", x, np.array([axis]), keepdims=1), np.array([axis]), name="maximum")


def gather_max(graph: Graph, rows: str, neighbors: str, k: int, at_once: int) -> str:
    """(B, N, C) maximum of the k rows that the table names for each point, gathered ``at_once`` rows at a time."""
    sizes = [at_once] * (k // at_once) + [k % at_once] * (k % at_once > 0)
    parts = graph.ops("Split", len(sizes), neighbors, np.array(sizes), axis=2) if len(sizes) > 1 else [neighbors]
    top = None
    for part, size in zip(parts, sizes, strict=True):
        if size == 1:
            some = graph.op("GatherND", rows, part, batch_dims=1, name="gather")
        else:
            some = maximum(graph, gathered(graph, rows, part), 2)
        top = some if top is None else graph.op("Max", top, some)
    assert top is not None
    return top


def nearest(graph: Graph, x: str, k: int) -> str:
    """(B, N, k) indices of the nearest rows of x (B, N, C) to each row, itself included; fewer than k rows repeat.

    ``2 x_i x_j - |x_j|^2`` is largest where the distance is smallest. The rows are centred first, so that few digits
    are lost.
    """
    centred = graph.op("Sub", x, graph.op("ReduceMean", x, np.array([1])))
    squares = graph.op("ReduceSum", graph.op("Mul", centred, centred), np.array([2]))
    products = graph.op("MatMul", graph.op("Add", centred, centred), graph.op("Transpose", centred, perm=[0, 2, 1]))
    closeness = graph.op("Sub", products, graph.op("Transpose", squares, perm=[0, 2, 1]), name="closeness")
    there = graph.op("Min", graph.op("Shape", x, start=1, end=2), np.array([k]))
    _, neighbors = graph.ops("TopK", 2, closeness, there, axis=-1, largest=1, sorted=1)
    return graph.op("Gather", neighbors, graph.op("Mod", np.arange(k), there), axis=2, name="table")


def edge_conv(graph: Graph, x: str, layer: EdgeConv, neighbors: str, k: int) -> str:
    """(B, N, C) ``max_j LeakyReLU(norm(a_i + b_j))``, from products per point and the largest b of the neighbours.

    A quantiser rounds the halves Wc and Wd of the weight separately, so ``a = (Wc - Wd) x`` is one product with floats,
    but two with codes. b is a further product, although Wd x is part of a: OpenVINO makes errors where a value that it
    rounds is used a second time.
    """
    linear, norm = layer.linear, layer.norm
    both, sign = center_and_neighbor_weights(linear.masked(), norm.weight)
    scale, shift = folded(norm, None, layer.out_channels)
    scale = scale * array(sign)  # not negative: the signs are folded into the matrices
    rounded = matrix_of(both, linear.quantizer)
    center, neighbor = rounded.part(slice(layer.out_channels)), rounded.part(slice(layer.out_channels, None))
    of_a = [center.times(scale), neighbor.times(scale)]
    if linear.quantizer is None or linear.input_quantizer is None or not graph.as_codes:
        of_a = [Matrix(center.values() - neighbor.values()).times(scale)]
    rounding = layer.neighbor_quantizer
    if rounding is None:
        # quantize() rounds b wherever it rounds the inputs, so here no offset of the inputs is missing.
        *parts, (b, _) = products(graph, x, linear, *of_a, neighbor.times(scale))
        top = gather_max(graph, b, neighbors, k, AT_ONCE)
    else:
        step, offset = array(rounding.step), 0.0 if rounding.offset is None else array(rounding.offset)
        in_steps = neighbor.times(np.broadcast_to(1 / step, scale.shape))
        *parts, (b, missing) = products(graph, x, linear, *of_a, in_steps)
        b = graph.op("Add", b, short(missing - offset / step))
        largest = gather_max(graph, codes(graph, b, rounding.qmin, rounding.qmax), neighbors, k, 1)
        top = graph.op("Mul", values(graph, largest, rounding.qmin), short(step * scale))
        shift = shift + offset * scale
    a, missing = parts[0]
    if len(parts) == 2:
        a, missing = graph.op("Sub", a, parts[1][0]), missing - parts[1][1]
    a = graph.op("Add", a, short(shift + missing))
    return graph.op("LeakyRelu", graph.op("Add", a, top), alpha=float(layer.negative_slope))


def pairs(graph: Graph, layer: Linear, norm: BatchNorm, x: str, neighbors: str) -> str:
    """(B, N, k, C) ``norm(layer(row))`` for the rows ``[x_j - x_i ; x_i]`` of the neighbours in a table (B, N, k).

    ``Wd x_j + (Wc - Wd) x_i``: both products are taken once per point, before the gather.
    """
    factor, shift = folded(norm, layer.bias, layer.out_features)
    matrix = matrix_of(layer.masked(), layer.quantizer).times(factor)
    width = matrix.rows.shape[1] // 2
    of_neighbor, of_center = matrix.part(columns=slice(width)), matrix.part(columns=slice(width, None))
    of_a = [of_center, of_neighbor]
    if layer.quantizer is None or layer.input_quantizer is None or not graph.as_codes:
        of_a = [Matrix(of_center.values() - of_neighbor.values())]
    *parts, (b, missing) = products(graph, x, layer, *of_a, of_neighbor)
    a, lacking = parts[0]
    if len(parts) == 2:
        a, lacking = graph.op("Sub", a, parts[1][0]), lacking - parts[1][1]
    a = graph.op("Add", a, short(shift + lacking + missing))
    return graph.op("Add", gathered(graph, b, neighbors), graph.op("Unsqueeze", a, np.array([2])))


def mean(graph: Graph, y: str, axis: int = 1) -> str:
    """The mean along an axis, which is removed, as a product with a row of 1 / N: reductions of runtimes are slow.

    Args:
        graph: The graph to add it to.
        y: (B, N, C), or (B, n, k, C) with ``axis=2``.
        axis: The axis before the last.
    """
    count = graph.op("Shape", y, start=axis, end=axis + 1)
    fraction = graph.op("Reciprocal", graph.op("Cast", count, to=graph.onnx.TensorProto.FLOAT))
    row = graph.op("Expand", fraction, graph.op("Concat", np.array([1]), count, axis=0))
    return graph.op("Squeeze", graph.op("MatMul", row, y), np.array([axis]), name="mean")


def grouped(
    graph: Graph, layer: Linear, norm: BatchNorm, pos: str, features: str | None, centers: str, neighbors: str
) -> str:
    """(B, n, k, C) ``norm(layer(row))`` for the rows ``[p_j - c_i ; f_j]`` of the points in a table (B, n, k)."""
    factor, shift = folded(norm, layer.bias, layer.out_features)
    matrix = matrix_of(layer.masked(), layer.quantizer).times(factor)
    around = graph.op("Sub", gathered(graph, pos, neighbors), graph.op("Unsqueeze", centers, np.array([2])))
    h, _ = product(graph, Entering(around), matrix.part(columns=slice(3)))
    if features is None:
        return graph.op("Add", h, short(shift))
    # once per point, before the gather
    exact, matrix = max(layer.skip - 3, 0), matrix.part(columns=slice(3, None))
    if exact and (layer.input_quantizer is not None or layer.pool is not None):
        count = matrix.rows.shape[1] - exact if layer.pool is None else layer.pool.in_channels
        positions, features = graph.ops("Split", 2, features, np.array([exact, count]), axis=-1)
        ((of_points, missing),) = products(graph, features, layer, matrix.part(columns=slice(exact, None)))
        of_positions, _ = product(graph, Entering(positions), matrix.part(columns=slice(exact)))
        of_points = graph.op("Add", of_points, of_positions)
    else:
        ((of_points, missing),) = products(graph, features, layer, matrix)
    of_points = graph.op("Add", of_points, short(shift + missing))
    return graph.op("Add", gathered(graph, of_points, neighbors), h)
