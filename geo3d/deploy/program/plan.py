"""A DGCNN for a fixed number of points as a sequence of compiled calls, bound to their buffers once and run many times.

M points, B clouds, K input channels of a product, C output channels of a layer, S columns of all outputs side by side.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from geo3d.deploy.program.lower import Edge, Lowered, Product
from geo3d.nn.structured import SlidingSum
from geo3d.ops import native
from geo3d.ops.dense.matrix import WIDTH, wide
from geo3d.ops.dense.prepacked import PackedFloat, pack
from geo3d.ops.native.pointers import Part, Place
from geo3d.ops.quant import int8
from geo3d.ops.search.knn import TREE_FROM

Store = dict[tuple[str, str, str], PackedFloat]
"""Packed weights by name of the layer, its form, and the part of its weight."""

STAGES = ("knn", "products", "gather", "pooling", "other")


class Step(NamedTuple):
    """One call of a plan."""

    layer: str
    stage: str
    run: Callable[[], Any]


class Rows(NamedTuple):
    """M rows of floats in memory."""

    at: Tensor | Place | Part
    """Where the first row begins."""
    stride: int
    """Elements from the beginning of one row to the next."""
    width: int
    """Elements of a row."""


def forms(product: Product) -> tuple[str, ...]:
    """The forms in which a product can be computed.

    ``float`` always; ``int8`` if it has codes; ``dense``, which multiplies the pooling into the matrix, if there is a
    pooling and the inputs are not rounded.
    """
    names = ["float"]
    if product.codes is not None:
        names.append("int8")
    if product.pool is not None and product.rounding is None:
        names.append("dense")
    return tuple(names)


def padded_width(lowered: Lowered) -> int:
    """S: the sum of all channels, plus columns at the end for the padding that kernels write up to a full vector."""
    first, last = 0, 0
    for edge in lowered.edges:
        channels = len(edge.gain)
        last = max(last, first + channels + (-channels % WIDTH if edge.rounding is None else 0))
        first += channels
    return max(first, last)


class Plan:
    """The calls for M points in B clouds, bound to the compiled library that is in use when the plan is made.

    Args:
        lowered: The encoder.
        chosen: The form of each of ``layers.0``, ..., ``embed``, one of its :func:`forms`.
        rows: M.
        clouds: B.
        threads: Number of threads.
        store: Packed weights that the plans of one encoder share; this plan adds those that are missing.
    """

    def __init__(
        self, lowered: Lowered, chosen: Mapping[str, str], rows: int, clouds: int, threads: int, store: Store
    ) -> None:
        self._store = store
        self.lowered, self.chosen, self.rows, self.clouds = lowered, chosen, rows, clouds
        self.steps: list[Step] = []
        self._threads = threads
        self.columns = padded_width(lowered)
        self.channels = sum(len(edge.gain) for edge in lowered.edges)
        self.pooled = 2 * len(lowered.gain)
        self._x, self._pos = Place(torch.float32, rows, lowered.in_channels), Place(torch.float32, rows, 3)
        self._ptr = Place(torch.int64, clouds + 1)
        self._point, self._cloud = (
            Place(torch.float32, *size) for size in ((rows, self.columns), (clouds, self.pooled))
        )
        self._places = self._x, self._pos, self._ptr, self._point, self._cloud
        self._outputs = floats(rows, 0)
        self._build()
        self._calls = [step.run for step in self.steps]

    def run(self, x: Tensor, pos: Tensor, ptr: Tensor, point: Tensor, cloud: Tensor) -> None:
        """Fill ``point`` (M, columns) and ``cloud`` (B, pooled) with the features.

        Args:
            x: (M, in_channels) float32, contiguous.
            pos: (M, 3) float32, contiguous.
            ptr: (B + 1,) int64 offsets, contiguous.
            point: (M, columns) float32, contiguous.
            cloud: (B, pooled) float32, contiguous.
        """
        self._put(x, pos, ptr, point, cloud)
        for call in self._calls:
            call()

    def timed(self, clock: Callable[[], float], *tensors: Tensor) -> list[float]:
        """Run as :meth:`run` does; returns how long each step took by ``clock``."""
        self._put(*tensors)
        times = []
        for call in self._calls:
            start = clock()
            call()
            times.append(clock() - start)
        return times

    def _put(self, *tensors: Tensor) -> None:
        for place, tensor in zip(self._places, tensors, strict=True):
            place.put(tensor)
        self._outputs = tensors[3]

    def _build(self) -> None:
        lowered, first, x = self.lowered, 0, Rows(self._x, self.lowered.in_channels, self.lowered.in_channels)
        near = torch.empty(self.rows, lowered.k, dtype=torch.int64)
        if not lowered.dynamic:
            self._knn("layers.0", Rows(self._pos, 3, 3), near)
        for i, edge in enumerate(lowered.edges):
            name, channels = f"layers.{i}", len(edge.gain)
            if lowered.dynamic:
                x = x if i == 0 else self._dense(name, x)
                self._knn(name, x, near)
            out = Rows(Part(self._point, first), self.columns, channels)
            (self._edge if edge.rounding is None else self._rounded_edge)(name, edge, x, near, out)
            x, first = out, first + channels
        self._embed(Rows(Part(self._point, 0), self.columns, self.channels))

    def _call(self, layer: str, stage: str, function: str, *arguments: Any, what: str = "input") -> None:
        """Append a call; its arguments are checked and converted here, not when it runs."""
        self.steps.append(Step(layer, stage, native.bound(function, self._threads, *arguments, what=what)))

    def _knn(self, name: str, x: Rows, near: Tensor) -> None:
        points = self.rows, x.at, self._ptr
        self._call(
            name, "knn", "knn", self.clouds, x.width, near.shape[1], 1, *points, *points, TREE_FROM, near,
            what="the input of knn",
        )  # fmt: skip

    def _dense(self, name: str, x: Rows) -> Rows:
        """The same rows, contiguous: rows that are columns of the output buffer are copied by a step of the plan."""
        if x.stride == x.width:
            return x
        assert isinstance(x.at, Part)
        rows, columns = floats(self.rows, x.width), slice(x.at.first, x.at.first + x.width)
        self.steps.append(Step(name, "other", lambda: rows.copy_(self._outputs[:, columns])))
        return Rows(rows, x.width, x.width)

    def _edge(self, name: str, edge: Edge, x: Rows, near: Tensor, out: Rows) -> None:
        x, matrix = self._entering(name, edge.product, x)
        missing = -out.width % WIDTH
        ab = self._linear(name, x, "ab", lambda: torch.cat([pad(w, (0, 0, 0, missing)) for w in matrix().chunk(2)]))
        self._call(
            name, "gather", "edge_evaluate", *near.shape, out.width + missing, ab, near, wide(edge.gain),
            wide(edge.shift), self.lowered.slope, out.at, out.stride, what="neighbors",
        )  # fmt: skip

    def _rounded_edge(self, name: str, edge: Edge, x: Rows, near: Tensor, out: Rows) -> None:
        assert edge.rounding is not None
        step, offset, qmax = edge.rounding.step, edge.rounding.offset, edge.rounding.qmax
        width = out.width + -out.width % int8.ROW
        codes = torch.zeros(self.rows, width, dtype=torch.uint8)
        if self.chosen[name] == "int8":
            assert edge.product.codes is not None
            weight, scale, shift = edge.product.codes.weight, edge.product.codes.scale, edge.product.codes.shift
            q = self._codes(name, edge.product, self._pooled(name, edge.product, x))
            a = floats(self.rows, out.width)
            self._call(
                name, "products", "int8_edge_parts", self.rows, out.width, q.shape[1], q, weight.data, scale, shift,
                len(step), step, len(offset), offset, qmax, a, codes, width, what="codes",
            )  # fmt: skip
        else:
            x, matrix = self._entering(name, edge.product, x)
            missing = (0, width - out.width)
            a = self._linear(name, x, "a", lambda: matrix().chunk(2)[0])
            b = self._linear(name, x, "b", lambda: pad(matrix().chunk(2)[1], (0, 0, *missing)))
            of = [pad(each.expand(out.width), missing, value=1.0).contiguous() for each in (step, offset)]
            self._call(name, "products", "quantize", *b.shape, width, 1, b, *of, 0.0, float(qmax), codes, what="x")
        self._call(
            name, "gather", "int8_edge_evaluate", *near.shape, out.width, a, codes, width, near, len(step), step,
            len(offset), offset, edge.gain, edge.shift, self.lowered.slope, out.at, out.stride, what="neighbors",
        )  # fmt: skip

    def _embed(self, x: Rows) -> None:
        product, gain, shift, slope = self.lowered.embed, self.lowered.gain, self.lowered.shift, self.lowered.slope
        if self.chosen["embed"] == "int8":
            assert product.codes is not None
            q, codes = self._codes("embed", product, self._pooled("embed", product, x)), product.codes
            self._call(
                "embed", "pooling", "int8_linear_pool", self.rows, len(gain), q.shape[1], self.clouds, self._ptr, q,
                codes.weight.data, codes.scale, codes.shift, slope, self._cloud, self.pooled, what="ptr",
            )  # fmt: skip
            return
        x, matrix = self._entering("embed", product, x)
        weight = self._weight("embed", "all", matrix)
        self._call(
            "embed", "pooling", "linear_pool_packed", self.rows, len(gain), x.width, self.clouds, self._ptr, x.at,
            x.stride, weight.data(), gain, shift, slope, self._cloud, self.pooled, what="ptr",
        )  # fmt: skip

    def _weight(self, name: str, part: str, make: Callable[[], Tensor]) -> PackedFloat:
        """A packed weight, made once for all plans of a program."""
        key = name, self.chosen[name], part
        if key not in self._store:
            self._store[key] = pack(make().contiguous())
        return self._store[key]

    def _linear(self, name: str, x: Rows, part: str, make: Callable[[], Tensor]) -> Tensor:
        weight = self._weight(name, part, make)
        out = floats(self.rows, len(weight.weight))
        self._call(
            name, "products", "linear_packed", *out.shape, x.width, x.at, x.stride, weight.data(), None, 1.0, out,
            out.shape[1], what="linear",
        )  # fmt: skip
        return out

    def _pooled(self, name: str, product: Product, x: Rows) -> Rows:
        """The inputs of the product: x after the product's pooling, before it is rounded."""
        pool = product.pool
        if pool is None:
            return x
        if not isinstance(pool, SlidingSum):  # low rank: a product with a matrix
            return self._whole(self._linear(name, x, "pool", lambda: pool.basis().t().float()))
        x, out = self._dense(name, x), floats(self.rows, pool.rank)
        self._call(
            name, "products", "sliding_sum", self.rows, x.width, pool.rank, x.at, pool.order, float(pool.scale), out,
            what="order",
        )  # fmt: skip
        return self._whole(out)

    def _codes(self, name: str, product: Product, x: Rows) -> Tensor:
        rounding = product.rounding
        assert rounding is not None
        q = torch.empty(self.rows, x.width + -x.width % int8.GROUP, dtype=torch.uint8)
        self._call(
            name, "products", "int8_quantize", self.rows, x.width, x.at, x.stride, rounding.step, rounding.offset,
            rounding.qmax, q, q.shape[1], what="x",
        )  # fmt: skip
        return q

    def _entering(self, name: str, product: Product, x: Rows) -> tuple[Rows, Callable[[], Tensor]]:
        """The rows that enter the layer's product with floats, and a function that makes the matrix for them."""
        if self.chosen[name] == "dense":
            return x, lambda: (product.matrix.double() @ product.pool.basis().t()).float()
        x, rounding = self._pooled(name, product, x), product.rounding
        if rounding is None:
            return x, lambda: product.matrix
        x, out = self._dense(name, x), floats(self.rows, x.width)
        self._call(
            name, "products", "fake_quantize", *out.shape, 1, 0, x.at, rounding.step, rounding.offset, 0.0,
            float(rounding.qmax), out,
        )  # fmt: skip
        return self._whole(out), lambda: product.matrix

    def _whole(self, rows: Tensor) -> Rows:
        return Rows(rows, rows.shape[1], rows.shape[1])


def floats(rows: int, width: int) -> Tensor:
    """(rows, width) float32, not filled, whatever torch's default type is."""
    return torch.empty(rows, width, dtype=torch.float32)
