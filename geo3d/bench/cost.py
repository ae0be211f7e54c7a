"""Counts of what an encoder costs, in any compressed form: parameters, their bits, and the arithmetic of one cloud."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2
from typing import Any

import torch
from torch import Tensor, nn

from geo3d.compress import Adaptive, Setting
from geo3d.nn.describe import graph_of
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.graph import Op, rows_of, widths_of
from geo3d.nn.linear import Linear

FLOAT = 32
"""Bits of a number that is not quantised, and the most bits that an accumulator has."""


@dataclass(frozen=True)
class Work:
    """The arithmetic of one operation for one cloud.

    Attributes:
        name: Name of the layer.
        macs: Multiplications, each with an addition.
        nonzero: Multiplications whose weight is not zero; only these count in the score, as in the MicroNet challenge.
        multiply_bits: Bits of the wider operand of a multiplication.
        add_bits: Bits of the accumulator: the fewest without overflow of the sum, at most ``FLOAT``.
        distance_macs: Multiplications, each with an addition, of distances between points, in single precision.
        adds: Additions without a multiplication: sums over windows of channels, norms, means, interpolation.
        compares: Comparisons of the maxima, on numbers of ``compare_bits``.
        compare_bits: Bits of the compared numbers.
    """

    name: str
    macs: int = 0
    nonzero: int = 0
    multiply_bits: int = FLOAT
    add_bits: int = FLOAT
    distance_macs: int = 0
    adds: int = 0
    compares: int = 0
    compare_bits: int = FLOAT

    @property
    def operations(self) -> float:
        """All arithmetic in 32-bit equivalents: each multiplication, addition and comparison counts by its bits."""
        bits = self.nonzero * (self.multiply_bits + self.add_bits) + self.compares * self.compare_bits
        return bits / FLOAT + 2 * self.distance_macs + self.adds


@dataclass(frozen=True)
class Cost:
    """What an encoder needs; all counts of arithmetic are for one cloud.

    Attributes:
        parameters: Parameters that inference needs, without the zeros of pruned weights and the masks' parameters.
        weight_bits: Bits of the stored parameters, each with its own number of bits, and of the channel orders. Where
            it is shorter, zeros are not stored, and one bit per weight marks their places.
        work: The arithmetic of the operations.
    """

    parameters: int
    weight_bits: int
    work: tuple[Work, ...]

    @property
    def macs(self) -> int:
        """Multiplications by weights, each with an addition, in dense matrices: zeros count, too."""
        return sum(each.macs for each in self.work)

    @property
    def distance_macs(self) -> int:
        """Multiplications of the searches for neighbours and samples, if every pair of points is compared."""
        return sum(each.distance_macs for each in self.work)

    @property
    def adds(self) -> int:
        """Additions without a multiplication."""
        return sum(each.adds for each in self.work)

    @property
    def compares(self) -> int:
        """Comparisons of the maxima over neighbours and points."""
        return sum(each.compares for each in self.work)

    @property
    def bytes(self) -> int:
        """``weight_bits`` in bytes."""
        return ceil(self.weight_bits / 8)

    @property
    def operations(self) -> float:
        """All arithmetic in 32-bit equivalents."""
        return sum(each.operations for each in self.work)


def score(cost: Cost, reference: Cost) -> float:
    """``bits / reference bits + operations / reference operations``: 2 for the reference itself, lower is better.

    The rules are those of the MicroNet challenge (NeurIPS 2019). A parameter counts as its bits / 32; a pruned matrix
    adds one bit per weight for the places of its zeros. Multiplications and additions count separately, each as the
    bits of its wider operand / 32; those with a zero weight do not count. Distances between points and comparisons,
    which image networks do not have, count in full. Nothing is assumed to have 16 bits for free.

    Example:
        >>> score(Cost(50, 400, (Work("a", 9, 9, 8, 16),)), Cost(50, 1600, (Work("a", 9, 9),)))
        0.625
    """
    return cost.weight_bits / reference.weight_bits + cost.operations / reference.operations


def cost(encoder: nn.Module, num_points: int, setting: Setting | None = None) -> Cost:
    """The cost of the encoder for a cloud of ``num_points``, counted from its modules.

    An edge convolution counts in its factored form, as two products per point. A set abstraction counts every row of
    the ball query, and the features in its first layer once per point. This is an upper bound: the compiled operator
    computes repeated rows only once.

    Args:
        encoder: An encoder with a ``layer_graph``, in any compressed form.
        num_points: Number of points of a cloud.
        setting: For an adaptive encoder, the setting whose arithmetic counts; by default the one in use.

    Raises:
        ConfigError: If the encoder has no ``layer_graph``.
    """
    if isinstance(encoder, Adaptive):
        setting = setting or encoder.setting
        kept = min(setting.num_points, num_points)
        work = cost(encoder.subnet(setting), kept).work
        if kept < num_points:
            work = (Work("samples", distance_macs=3 * num_points * kept), *work)
    else:
        work = tuple(_counted(encoder, graph_of(encoder, "counting the arithmetic"), num_points))
    stored = [_stored(module) for module in _kept(encoder)]
    if isinstance(encoder, Adaptive):  # the first setting's statistics fold into the norms, the others' are stored
        others = sum(b.numel() for b in encoder.statistics.buffers() if b.is_floating_point())
        stored.append((others, FLOAT * others))
    return Cost(sum(count for count, _ in stored), sum(bits for _, bits in stored), work)


def _kept(encoder: nn.Module) -> Iterator[nn.Module]:
    """The modules that inference needs: all except the masks, which only leave zeros in the weights."""
    masked = [layer.mask for layer in encoder.modules() if isinstance(layer, Linear) and layer.mask is not None]
    masks = {id(part) for mask in masked for part in mask.modules()}
    return (module for module in encoder.modules() if id(module) not in masks)


def _factor(layer: Linear) -> Tensor:
    """(2 * out_channels, inner) the matrix by which an edge convolution multiplies its points, up to signs."""
    difference, center = layer.masked().chunk(2, 1)
    return torch.cat([center - difference, difference])


def _stored(module: nn.Module) -> tuple[int, int]:
    """Number of parameters, and their bits, that a module itself stores (without its submodules)."""
    own = dict(module.named_parameters(recurse=False))
    count, bits = 0, 0
    if isinstance(module, Linear):
        weight = own.pop("weight")
        values = module.masked()
        count, each = int(torch.count_nonzero(values)), weight_bits(module)
        bits = min(weight.numel() * each, count * each + weight.numel())
    rest = sum(value.numel() for value in own.values())
    # A channel order is stored as integers, each with the bits that it takes to number a channel.
    orders = [b for b in module.buffers(recurse=False) if b.dim() == 1 and len(b) > 1 and b.dtype == torch.int64]
    indices = sum(len(order) * ceil(log2(len(order))) for order in orders)
    return count + rest, bits + FLOAT * rest + indices


def weight_bits(layer: Linear) -> int:
    """Bits of one weight of a layer."""
    return FLOAT if layer.quantizer is None else int(layer.quantizer.bits)


def _product(name: str, layer: Linear, rows: int, matrix: Tensor, rounded: bool = True, norm: bool = True) -> Work:
    """The product of ``matrix`` (outer, inner) with ``rows`` rows, and the norm behind it."""
    outer, inner = matrix.shape
    for_activations = FLOAT if layer.input_quantizer is None or not rounded else int(layer.input_quantizer.bits)
    for_weights = weight_bits(layer)
    sum_bits = for_weights + for_activations + ceil(log2(max(inner, 2)))
    return Work(
        name,
        macs=rows * outer * inner,
        nonzero=rows * int(torch.count_nonzero(matrix)),
        multiply_bits=max(for_weights, for_activations),
        add_bits=FLOAT if FLOAT in (for_weights, for_activations) else min(FLOAT, sum_bits),
        adds=rows * outer if norm else 0,
    )


def _windows(name: str, layer: Linear, rows: int) -> Iterator[Work]:
    """The sums over channels (or the narrow product) that come before a structured layer."""
    if layer.pool is None:
        return
    multiplies, adds = int(layer.pool.multiplies_per_row), int(layer.pool.adds_per_row)
    yield Work(f"{name}.pool", rows * multiplies, rows * multiplies, adds=rows * adds)


def _linear(name: str, layer: Linear, rows: int) -> Iterator[Work]:
    yield from _windows(name, layer, rows)
    yield _product(name, layer, rows, layer.masked())


def _largest(name: str, values: int, quantizer: Any = None) -> Work:
    bits = FLOAT if quantizer is None else int(quantizer.bits)
    return Work(f"{name}.max", compares=values, compare_bits=bits)


def _edge(op: Op, layer: EdgeConv, rows: int, k: int) -> Iterator[Work]:
    """Two products per point, and the maximum over its neighbours."""
    name = op.path.rpartition(".")[0]
    yield from _windows(name, layer.linear, rows)
    yield _product(name, layer.linear, rows, _factor(layer.linear))
    yield _largest(name, rows * k * layer.out_channels, layer.neighbor_quantizer)


def _group(op: Op, layer: Linear, edges: int, centers: int, points: int) -> Iterator[Work]:
    """The search for the balls, then products: of coordinates once per edge, of features once per point."""
    matrix = layer.masked()
    yield Work(f"{op.path}.neighbours", distance_macs=3 * centers * points)
    yield _product(f"{op.path}.offsets", layer, edges, matrix[:, :3], rounded=False)
    if matrix.shape[1] > 3:
        yield from _windows(op.path, layer, points)
        yield _product(op.path, layer, points, matrix[:, 3:], norm=False)


def _search(op: Op, rows: Mapping[str, int], channels: int, nested: bool) -> Work:
    """The distances of a search, of all pairs of rows or of points and samples; an interpolation also adds."""
    first = rows[op.sources[0]]
    if op.kind == "neighbors":
        return Work(op.path, distance_macs=first * first * channels)
    if op.kind == "farthest":  # points in the order of an earlier sampling need no second one
        return Work(op.path, distance_macs=0 if nested else 3 * first * rows[op.path])
    return Work(op.path, distance_macs=3 * rows[op.path] * first, adds=3 * rows[op.path] * channels)


def _counted(encoder: nn.Module, ops: Sequence[Op], num_points: int) -> Iterator[Work]:
    """The arithmetic of each operation of a graph for one cloud."""
    rows, widths, by_name = rows_of(ops, num_points), widths_of(ops, encoder), {op.path: op for op in ops}
    for op in ops:
        if op.kind in ("input", "columns", "concat", "expand"):  # copies
            continue
        count, channels = rows[op.sources[0]], widths[op.sources[0]]
        if op.kind == "edge":
            layer = encoder.get_submodule(op.path.rpartition(".")[0])
            assert isinstance(layer, EdgeConv)
            yield from _edge(op, layer, count, min(by_name[op.sources[1]].k, num_points))
        elif op.kind in ("dense", "group", "pairs"):
            linear = encoder.get_submodule(op.path)
            assert isinstance(linear, Linear)
            if op.kind == "dense":
                yield from _linear(op.path, linear, count)
            elif op.kind == "pairs":  # two products per point, and their sum for each pair
                yield from _windows(op.path, linear, count)
                yield _product(op.path, linear, count, _factor(linear))
                yield Work(f"{op.path}.pairs", adds=rows[op.path] * widths[op.path])
            else:
                yield from _group(op, linear, rows[op.path], rows[op.sources[1]], count)
        elif op.kind == "max":
            yield _largest(op.path, count * channels)
        elif op.kind == "mean":
            yield Work(op.path, adds=count * channels)
        elif op.kind == "matmul":
            yield Work(op.path, count * channels**2, count * channels**2)
        else:
            yield _search(op, rows, channels, by_name[op.sources[0]].kind == "farthest")
