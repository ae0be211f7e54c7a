"""The pooling of a structured layer in an ONNX graph: sums over windows of channels, or a low-rank projection.

Runtimes have no operator for sums over windows. A product with the matrix of zeros and ones is the fastest replacement
for all sizes measured (128 to 512 channels); differences of running sums take two to six times as long in ONNX Runtime.
"""

from typing import Any

from geo3d.deploy.onnx.graph import Graph
from geo3d.deploy.onnx.quantized import Matrix, array, short
from geo3d.nn.linear import Linear
from geo3d.nn.structured import SlidingSum


def pooled(graph: Graph, x: str, pool: Any) -> str:
    """(..., R) channels of x (..., P) after ``pool``."""
    basis = array(pool.basis())
    if not isinstance(pool, SlidingSum):
        return graph.op("MatMul", x, graph.constant(short(basis), "basis"))
    # Stored as bool, one byte per entry; runtimes convert the matrix to floats once, at load. Not as int8: OpenVINO
    # takes that for compressed weights and quantizes the other side of the product.
    places = graph.op("Cast", basis != 0, to=graph.onnx.TensorProto.FLOAT)
    return graph.op("MatMul", x, graph.op("Mul", places, short(pool.scale), name="basis"))


def folds(layer: Linear, rows: int) -> bool:
    """Whether one matrix with ``rows`` rows for pool and product takes no more multiplications than the two apart."""
    if layer.pool is None or layer.input_quantizer is not None:
        return False
    channels, rank = layer.pool.in_channels, layer.pool.rank
    return bool(rows * channels <= (rows + channels) * rank)


def folded_in(pool: Any, matrix: Matrix) -> Matrix:
    """(out, P) matrix that does the work of the pool and then of the ``matrix`` (out, R)."""
    return Matrix(matrix.values() @ array(pool.basis()).T)
