"""What stands before a structured layer's product, in an ONNX graph: sums over windows of channels, or a projection.

Runtimes have no sums over windows. Of what they have, a product with the matrix of zeros and ones is the fastest for
all sizes measured (128 to 512 channels): differences of running sums take twice to six times as long in ONNX Runtime.
"""

from typing import Any

from geo3d.deploy.onnx.graph import Graph
from geo3d.deploy.onnx.quantized import Matrix, array, short
from geo3d.nn.linear import Linear
from geo3d.nn.structured import SlidingSum


def pooled(graph: Graph, x: str, pool: Any) -> str:
    """(..., R) from (..., P): what ``pool`` makes of the channels."""
    basis = array(pool.basis())
    if not isinstance(pool, SlidingSum):
        return graph.op("MatMul", x, graph.constant(short(basis), "basis"))
    # A byte for each place in the file; runtimes make floats of them once, when they load it. Truth values, for what
    # looks like compressed weights to OpenVINO makes it round the other side of the product.
    places = graph.op("Cast", basis != 0, to=graph.onnx.TensorProto.FLOAT)
    return graph.op("MatMul", x, graph.op("Mul", places, short(pool.scale), name="basis"))


def folds(layer: Linear, rows: int) -> bool:
    """Whether a matrix of so many rows behind the layer's pool takes fewer products together with it than apart."""
    if layer.pool is None or layer.input_quantizer is not None:
        return False
    channels, rank = layer.pool.in_channels, layer.pool.rank
    return bool(rows * channels <= (rows + channels) * rank)


def folded_in(pool: Any, matrix: Matrix) -> Matrix:
    """(out, P) what the pool and then the matrix (out, R) do."""
    return Matrix(matrix.values() @ array(pool.basis()).T)
