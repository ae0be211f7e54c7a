"""Matrices and rounding in an ONNX graph: codes with the learned steps and offsets.

A quantiser rounds x to ``step * code + offset``. ONNX has whole-number zero points only, and the learned offset is not
a multiple of the step. So the offset is subtracted before rounding, all zero points are 0, and the layer that reads the
value adds ``matrix @ offset`` to its shift, which is exact since nothing is padded.

Every QuantizeLinear node has a single step, because runtimes take eighty times as long with one step per channel. A
quantiser with one step per channel divides x by its steps before that node, and multiplies by them after it.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from geo3d.deploy.onnx.graph import Graph

Array = np.ndarray[Any, Any]

TINY = 1e-30
"""A scale used instead of 0, because runtimes divide by scales."""


def array(tensor: Tensor) -> Array:
    """The values as an array; floats in double precision, so that folding loses no digits."""
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def short(values: Any) -> Array:
    """The values in single precision."""
    return np.asarray(values, np.float32)


@dataclass(frozen=True)
class Matrix:
    """A matrix (out, in) of floats, or of codes with one scale per row.

    Attributes:
        rows: (out, in) floats, or int8 codes.
        scale: (out,) factors of the codes of each row; None for floats.
    """

    rows: Array
    scale: Array | None = None

    def values(self) -> Array:
        """(out, in) floats."""
        return self.rows if self.scale is None else self.rows * self.scale[:, None]

    def part(self, rows: slice = slice(None), columns: slice = slice(None)) -> "Matrix":
        """Some of the rows and columns."""
        return Matrix(self.rows[rows, columns], None if self.scale is None else self.scale[rows])

    def times(self, factor: Array) -> "Matrix":
        """The matrix with row r multiplied by ``factor[r]``; scales stay positive, a negative factor negates codes."""
        if self.scale is None:
            return Matrix(self.rows * factor[:, None])
        rows = np.where(factor[:, None] < 0, -self.rows, self.rows)
        return Matrix(rows, np.maximum(self.scale * np.abs(factor), TINY))


class Entering(NamedTuple):
    """The input of a product.

    Attributes:
        value: Its name in the graph.
        offset: (1,) or (in,) constant that is not yet added to the value; None if there is none.
        coded: Whether the value is codes times a single step.
    """

    value: str
    offset: Array | None = None
    coded: bool = False


def matrix_of(weight: Tensor, quantizer: Any) -> Matrix:
    """The matrix of a weight (out, in): codes if it has a ``quantizer``, else floats."""
    if quantizer is None:
        return Matrix(array(weight))
    codes = array(quantizer.codes(weight)).astype(np.int8)
    step = array(quantizer.step)
    return Matrix(codes, step.repeat(len(codes) // len(step)))


def codes(graph: Graph, x: str, qmin: int, qmax: int, step: float = 1.0) -> str:
    """The codes (uint8, or int8 where ``qmin`` is negative) of x, whose offset has been subtracted."""
    zero = np.zeros((), np.uint8 if qmin >= 0 else np.int8)
    if (qmin, qmax) != (np.iinfo(zero.dtype).min, np.iinfo(zero.dtype).max):  # otherwise the type itself clips
        x = graph.op("Clip", x, short(qmin * step), short(qmax * step))
    return graph.op("QuantizeLinear", x, short(step), zero)


def values(graph: Graph, codes: str, qmin: int, step: float = 1.0) -> str:
    """The codes times ``step``, as floats; ``qmin`` tells their type."""
    return graph.op("DequantizeLinear", codes, short(step), np.zeros((), np.uint8 if qmin >= 0 else np.int8))


def entering(graph: Graph, x: str, quantizer: Any) -> Entering:
    """The input of a product: x (..., in) rounded by ``quantizer``, or x itself if that is None."""
    if quantizer is None:
        return Entering(x)
    step, qmin, qmax = array(quantizer.step), quantizer.qmin, quantizer.qmax
    offset = None if quantizer.offset is None else array(quantizer.offset)
    if offset is not None:
        x = graph.op("Sub", x, short(offset), name="from_offset")
    if len(step) == 1:
        return Entering(values(graph, codes(graph, x, qmin, qmax, step[0]), qmin, step[0]), offset, coded=True)
    in_steps = codes(graph, graph.op("Mul", x, short(1 / step)), qmin, qmax)
    return Entering(graph.op("Mul", values(graph, in_steps, qmin), short(step)), offset)


def product(graph: Graph, x: Entering, matrix: Matrix) -> tuple[str, Array]:
    """The name of ``x matrix^T`` (..., out), and the (out,) constant that still has to be added to it.

    The matrix is stored as codes only if the graph stores codes and x is coded. If only the matrix had codes, runtimes
    would round x too, which is meant to stay exact.
    """
    floats = matrix.values()
    missing = np.zeros(len(floats)) if x.offset is None else floats @ np.broadcast_to(x.offset, floats.shape[1:])
    if matrix.scale is None or not (graph.as_codes and x.coded):
        return graph.op("MatMul", x.value, graph.constant(short(floats.T), "weight")), missing
    small = graph.int4 and matrix.rows.min() >= -8 and matrix.rows.max() <= 7
    kind = graph.onnx.TensorProto.INT4 if small else None
    stored = graph.constant(np.ascontiguousarray(matrix.rows.T), "weight_codes", kind)
    weight = graph.op("DequantizeLinear", stored, short(matrix.scale), axis=1, name="weight")
    return graph.op("MatMul", x.value, weight), missing
