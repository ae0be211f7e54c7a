"""Lowers a chain of edge convolutions to codes and scales, and runs it in torch: this reference defines the results.

M points, B clouds; a product has K input and C output channels. A rounded input is ``s q + o`` with a code q, the step
s and the offset o. A rounded weight of output channel c is ``t[c] w`` with a code w and the step t[c]. So the product
is ``(s t[c]) sum(q w) + o t[c] sum(w)``: an exact sum of whole numbers, then one multiplication and one addition, each
rounded by itself. All later operations have a fixed order too (see :mod:`geo3d.ops.quant.int8`), so that compiled
kernels give the same bits on every processor and with any number of threads.

An edge convolution ``a_i + max_j b_j`` has ``a = (Wc - Wd) x`` and ``b = Wd x``. With floats, one product with the rows
``[Wc - Wd ; Wd]`` gives a and b. With codes, Wc and Wd are rounded separately: the rows ``[Wc ; Wd]`` give
``Wc x = a + b`` and b, and a is the difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear, pad
from torch_geometric.data import Data

from geo3d.cloud import Features, Layout, Level, common_size
from geo3d.deploy.program.chain import chain_of
from geo3d.encoders.inputs import input_batch, point_inputs
from geo3d.errors import ConfigError
from geo3d.nn.describe import graph_of
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm
from geo3d.nn.quantizer import Quantizer
from geo3d.nn.structured import SlidingSum
from geo3d.ops import native
from geo3d.ops.dense.pooling import max_and_mean
from geo3d.ops.edge.conv import center_and_neighbor_weights
from geo3d.ops.edge.gather import gather_max
from geo3d.ops.quant import int8
from geo3d.ops.search.knn import knn


@dataclass(frozen=True)
class Rounding:
    """Rounds features to codes from 0 to ``qmax``; a code stands for the value ``code * step + offset``."""

    step: Tensor
    """(1,), or (C,) with one step per channel."""
    offset: Tensor
    """(1,), or (C,) with one offset per channel."""
    qmax: int

    def codes(self, x: Tensor) -> Tensor:
        """(M, C) uint8 nearest codes, by a true division and rounding half to even."""
        return ((x - self.offset) / self.step).clamp(0, self.qmax).round().to(torch.uint8)


@dataclass(frozen=True)
class Codes:
    """A weight as codes, with the scale and shift that turn a sum of products of codes into a value of the layer."""

    weight: int8.Packed
    """Codes within [-63, 63]. For an edge convolution two parts, Wc and then Wd, whose products are ``a + b`` and b."""
    scale: Tensor
    """(C,) ``s t[c]``, multiplied by the norm's scale in the embedding; (2 C,) for the two parts of an edge layer."""
    shift: Tensor
    """(C,) or (2 C,) value that a sum of 0 stands for: ``o t[c] sum(w)``, with the norm applied in the embedding."""


@dataclass(frozen=True)
class Product:
    """A linear layer in two forms: with floats, which are rounded where the layer rounds, and with codes."""

    matrix: Tensor
    """(C, K) float32, rounded if the layer rounds its weight; (2 C, K) ``[Wc - Wd ; Wd]`` for an edge convolution."""
    pool: Any
    """Reduces the channels of the input of a structured layer, by sums over windows or a low-rank matrix; else None."""
    rounding: Rounding | None
    """Rounds the inputs of the product, after ``pool``; None if they are not rounded."""
    codes: Codes | None
    """None if the weight or the inputs are not rounded; coordinates never are."""

    def inputs(self, x: Tensor) -> Tensor:
        """(M, K) inputs of the product: x after ``pool``, before it is rounded."""
        if self.pool is None or isinstance(self.pool, SlidingSum):
            return x if self.pool is None else self.pool(x)
        return multiplied(x, self.pool.basis().t().float())  # low rank: a product with a matrix

    def floats(self, x: Tensor) -> Tensor:
        """(M, C) product with floats."""
        x = self.inputs(x)
        if self.rounding is not None:
            x = self.rounding.codes(x) * self.rounding.step + self.rounding.offset
        return multiplied(x, self.matrix)


def multiplied(x: Tensor, matrix: Tensor) -> Tensor:
    """(M, C) ``x matrix^T`` by the compiled kernel, so that floats are added in the order of the compiled program.

    Where the kernels cannot be used, torch computes it.
    """
    if not native.usable(x, matrix):
        return linear(x, matrix)
    x, matrix, out = x.contiguous(), matrix.contiguous(), x.new_empty(len(x), len(matrix))
    native.call(
        "linear", *out.shape, x.shape[1], x, x.shape[1], matrix, x.shape[1], None, out, len(matrix), what="linear"
    )
    return out


@dataclass(frozen=True)
class Edge:
    """An edge convolution ``LeakyReLU((a + max_j b_j) gain + shift)``; its product gives a and b."""

    product: Product
    rounding: Rounding | None
    """Rounds b; None if b is not rounded."""
    gain: Tensor
    """(C,) scale of the norm, not negative: the signs of the norm's weight are folded into the product."""
    shift: Tensor
    """(C,) shift of the norm."""


@dataclass(frozen=True)
class Lowered:
    """A whole encoder in evaluation: edge convolutions, then the embedding, pooled by maximum and mean."""

    edges: tuple[Edge, ...]
    embed: Product
    """The embedding; its codes have the norm folded in, its floats do not."""
    gain: Tensor
    """(embedding,) scale of the last norm, for the product with floats."""
    shift: Tensor
    """(embedding,) shift of the last norm, for the product with floats."""
    k: int
    """Neighbours per point."""
    in_channels: int
    dynamic: bool
    """Whether each edge convolution searches neighbours among its own inputs, not among the coordinates."""
    slope: float
    """Slope of every LeakyReLU."""
    inputs: tuple[str, ...] = ()
    """Fields that are read beside the coordinates, see :func:`geo3d.encoders.inputs.point_inputs`."""


@torch.no_grad()
def lower(encoder: nn.Module) -> Lowered:
    """Matrices, codes and scales of an encoder, which may be structured, pruned or quantised.

    Layers that do not round their weight and inputs have no codes.

    Raises:
        ConfigError: If the encoder's graph is not a chain of edge convolutions, a quantiser has a form that codes
            cannot have (:func:`geo3d.compress.quantize` makes none), or a norm keeps no running statistics.
    """
    chain = chain_of(graph_of(encoder, "compiling"))
    edges = []
    for op in chain.edges:
        path = op.path.rpartition(".")[0]
        layer = encoder.get_submodule(path)
        assert isinstance(layer, EdgeConv)
        weight = layer.linear.masked()
        both, sign = center_and_neighbor_weights(weight, layer.norm.weight)
        gain, shift = _folded(layer.norm, op.norm)
        product = _product(layer.linear, both, path, parts=2)
        of_center, of_neighbor = product.matrix.chunk(2)  # with floats one product gives a and b
        product = replace(product, matrix=torch.cat([of_center - of_neighbor, of_neighbor]))
        rounding = None if layer.neighbor_quantizer is None else _rounding(layer.neighbor_quantizer, path)
        if rounding is None and product.codes is not None:
            raise ConfigError(
                f"{path} rounds its weights and inputs but not b, its neighbours' part; quantize all of them"
            )
        edges.append(Edge(product, rounding, (gain * sign).detach(), shift.detach()))
    linear, norm = encoder.get_submodule(chain.embed.path), encoder.get_submodule(chain.embed.norm)
    assert isinstance(linear, Linear) and isinstance(norm, BatchNorm)
    gain, shift = _folded(norm, chain.embed.norm)
    embed = _product(linear, linear.masked(), chain.embed.path, gain=gain, shift=shift)
    sizes = chain.k, chain.in_channels
    slope, inputs = float(chain.embed.slope or 0.0), tuple(getattr(encoder, "inputs", ()))
    return Lowered(tuple(edges), embed, gain, shift, *sizes, chain.dynamic, slope, inputs)


def rounded(lowered: Lowered) -> bool:
    """Whether any product has codes."""
    return any(product.codes is not None for product in (*(edge.product for edge in lowered.edges), lowered.embed))


def _folded(norm: BatchNorm, name: str) -> tuple[Tensor, Tensor]:
    if norm.running_mean is None or norm.running_var is None:
        raise ConfigError(f"{name} keeps no running statistics; an encoder without them cannot be deployed")
    return norm.folded()


def _rounding(quantizer: Quantizer, name: str) -> Rounding:
    groups = quantizer.granularity.groups
    if quantizer.qmin != 0 or (groups > 1 and quantizer.granularity.axis != 1):
        raise ConfigError(
            f"{name}: features are deployed as codes from 0 on, with one step or one step per channel; found codes "
            f"from {quantizer.qmin} on and {quantizer.granularity}"
        )
    step = quantizer.step.detach().float().clone()
    offset = torch.zeros_like(step) if quantizer.offset is None else quantizer.offset.detach().float().clone()
    return Rounding(step, offset, quantizer.qmax)


def _product(
    layer: Any, weight: Tensor, name: str, parts: int = 1, gain: Tensor | None = None, shift: Tensor | None = None
) -> Product:
    quantizer, before = layer.quantizer, layer.input_quantizer
    rounding = None if before is None else _rounding(before, name)
    matrix = (weight if quantizer is None else quantizer(weight)).detach().float().clone().contiguous()
    if quantizer is None or rounding is None:
        return Product(matrix, layer.pool, rounding, None)
    codes, step = quantizer.codes(weight), quantizer.step.double()
    if len(rounding.step) > 1 or codes.dtype != torch.int8 or quantizer.offset is not None:
        raise ConfigError(
            f"{name}: a product of codes needs one step for all inputs, and a weight with signed codes and no offset; "
            "quantise with geo3d.compress.quantize"
        )
    step = step.repeat_interleave(len(codes) // len(step))
    scale = rounding.step.double() * step
    zero = rounding.offset.double() * step * codes.double().sum(1)
    if gain is not None and shift is not None:
        scale, zero = scale * gain.double(), zero * gain.double() + shift.double()
    return Product(matrix, layer.pool, rounding, Codes(int8.pack(codes, parts), scale.float(), zero.float()))


@torch.no_grad()
def reference(
    lowered: Lowered, data: Data, tables: Sequence[Tensor] | None = None, trace: dict[str, Tensor] | None = None
) -> Features:
    """The features that define a lowered encoder: torch adds codes exactly and computes floats in a fixed order.

    Products with floats (always that of the first layer, which reads coordinates) and the search for neighbours use the
    same operators as other encoders. A compiled program gives the same bits as this, provided that both have the same
    neighbours. Where distances are equal up to rounding, two builds may pick different ones; ``tables`` rules this out.

    Args:
        lowered: From :func:`lower`.
        data: Clouds.
        tables: (M, k) neighbours of each edge convolution, to use instead of searching.
        trace: A dict that receives intermediate values under names such as ``"layers.0.codes"``: ``neighbors``,
            ``codes`` (of the product's inputs), ``sums`` (int32), ``b`` (its codes) and ``out``; for ``embed`` only
            ``codes`` and ``sums``.
    """
    batch, kept = input_batch(data), {} if trace is None else trace
    inputs, ptr, size = point_inputs(batch, lowered.in_channels, lowered.inputs), batch.ptr, common_size(batch)
    x = inputs
    near = None if lowered.dynamic or tables is not None else knn(batch.pos, Layout(ptr, size), lowered.k)
    outputs = []
    for i, edge in enumerate(lowered.edges):
        table = tables[i] if tables is not None else knn(x, Layout(ptr, size), lowered.k) if near is None else near
        kept[f"layers.{i}.neighbors"] = table
        x = kept[f"layers.{i}.out"] = _edge(edge, x, table, lowered.slope, kept, f"layers.{i}")
        outputs.append(x)
    point = torch.cat(outputs, 1)
    levels = (Level(batch.pos, Layout(ptr, size), inputs),)
    return Features(point, _embed(lowered, point, ptr, size, kept), levels)


def _edge(edge: Edge, x: Tensor, near: Tensor, slope: float, kept: dict[str, Tensor], name: str) -> Tensor:
    product, rounding, codes = edge.product, edge.rounding, edge.product.codes
    if rounding is None or codes is None:
        a, b = product.floats(x).chunk(2, 1)
        if rounding is None:
            return leaky_relu((a + gather_max(b.contiguous(), near)) * edge.gain + edge.shift, slope)
        of_b = rounding.codes(b)
        of_b = pad(of_b, (0, -of_b.shape[1] % int8.ROW))
    entering = product.inputs(x) if codes is not None else x
    with native.disabled():
        if codes is not None:
            q = _codes(product, entering)
            kept[f"{name}.codes"], kept[f"{name}.sums"] = q, _sums(q, codes)
            a, of_b = int8.edge_parts(
                q, codes.weight, codes.scale, codes.shift, rounding.step, rounding.offset, rounding.qmax
            )
        kept[f"{name}.b"] = of_b[:, : a.shape[1]]
        return int8.edge_evaluate(a, of_b, near, rounding.step, rounding.offset, edge.gain, edge.shift, slope)


def _embed(lowered: Lowered, x: Tensor, ptr: Tensor, size: int | None, kept: dict[str, Tensor]) -> Tensor:
    product, codes = lowered.embed, lowered.embed.codes
    if codes is None:
        z = product.floats(x) * lowered.gain + lowered.shift
        return max_and_mean(leaky_relu(z, lowered.slope), Layout(ptr, size))
    entering = product.inputs(x)
    with native.disabled():
        q = _codes(product, entering)
        kept["embed.codes"], kept["embed.sums"] = q, _sums(q, codes)
        return int8.linear_pool(q, codes.weight, codes.scale, codes.shift, lowered.slope, ptr)


def _codes(product: Product, entering: Tensor) -> Tensor:
    rounding = product.rounding
    assert rounding is not None
    return int8.quantize_rows(entering, rounding.step, rounding.offset, rounding.qmax)


def _sums(q: Tensor, codes: Codes) -> Tensor:
    """(M, C) int32 sums of products of codes; in double precision, where whole numbers below 2^53 are exact."""
    return (q[:, : codes.weight.depth].double() @ codes.weight.codes().double().t()).to(torch.int32)
