"""Matrices and rounding in an ONNX graph: codes of so many bits with the learned steps and offsets.

A quantiser rounds x to ``step * code + offset``. ONNX knows whole zero points only, and the learned offset is not a
multiple of the step. So the producer subtracts it before rounding, zero points are 0 everywhere, and the consumer adds
``matrix @ offset`` to its shift, which is exact since nothing is padded.

Every value has one step only: runtimes take eighty times as long for one step a channel. Where there is one a channel,
it is divided out before rounding and multiplied back behind.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from geo3d.deploy.onnx.graph import Graph

Array = np.ndarray[Any, Any]

TINY = 1e-30
"""A scale that stands for 0, which runtimes divide by."""


def array(tensor: Tensor) -> Array:
    """The values on the CPU; floats in double precision, so that folding them costs no digits."""
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def short(values: Any) -> Array:
    """In single precision."""
    return np.asarray(values, np.float32)


@dataclass(frozen=True)
class Matrix:
    """A (out, in) matrix, and what it is stored as.

    Attributes:
        rows: (out, in) floats, or int8 codes.
        scale: (out,) what the codes of each row are multiplied by; None for floats.
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
        """Row r times ``factor[r]``; scales stay positive, a negative factor turns the codes."""
        if self.scale is None:
            return Matrix(self.rows * factor[:, None])
        turned = np.where(factor[:, None] < 0, -self.rows, self.rows)
        return Matrix(turned, np.maximum(self.scale * np.abs(factor), TINY))


class Entering(NamedTuple):
    """What a product takes.

    Attributes:
        value: Its name in the graph.
        offset: (1,) or (in,) a constant that is still missing in it; None if nothing is.
        coded: Whether the value is one step times codes.
    """

    value: str
    offset: Array | None = None
    coded: bool = False


def matrix_of(weight: Tensor, quantizer: Any) -> Matrix:
    """What a weight (out, in) becomes when ``quantizer`` rounds it; None leaves it."""
    if quantizer is None:
        return Matrix(array(weight))
    codes = array(quantizer.codes(weight)).astype(np.int8)
    step = array(quantizer.step)
    return Matrix(codes, step.repeat(len(codes) // len(step)))


def codes(graph: Graph, x: str, qmin: int, qmax: int, step: float = 1.0) -> str:
    """The codes (uint8, or int8 where ``qmin`` is negative) of x, whose offset has been subtracted."""
    zero = np.zeros((), np.uint8 if qmin >= 0 else np.int8)
    if (qmin, qmax) != (np.iinfo(zero.dtype).min, np.iinfo(zero.dtype).max):  # else the type cuts off by itself
        x = graph.op("Clip", x, short(qmin * step), short(qmax * step))
    return graph.op("QuantizeLinear", x, short(step), zero)


def values(graph: Graph, codes: str, qmin: int, step: float = 1.0) -> str:
    """The codes times ``step``, as floats; ``qmin`` tells their type."""
    return graph.op("DequantizeLinear", codes, short(step), np.zeros((), np.uint8 if qmin >= 0 else np.int8))


def entering(graph: Graph, x: str, quantizer: Any) -> Entering:
    """What enters a product: x (..., in) as ``quantizer`` rounds it; None leaves it."""
    if quantizer is None:
        return Entering(x)
    step, qmin, qmax = array(quantizer.step), quantizer.qmin, quantizer.qmax
    offset = None if quantizer.offset is None else array(quantizer.offset)
    if offset is not None:
        x = graph.op("Sub", x, short(offset), name="from_offset")
    if len(step) == 1:
        return Entering(values(graph, codes(graph, x, qmin, qmax, step[0]), qmin, step[0]), offset, coded=True)
    counted = codes(graph, graph.op("Mul", x, short(1 / step)), qmin, qmax)
    return Entering(graph.op("Mul", values(graph, counted, qmin), short(step)), offset)


def product(graph: Graph, x: Entering, matrix: Matrix) -> tuple[str, Array]:
    """The value of ``x matrix^T`` (..., out), and the (out,) constant that has still to be added to it.

    The matrix is stored as codes if the graph shall have codes and x has them: runtimes multiply codes by codes, and
    would round what is meant to stay exact.
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
