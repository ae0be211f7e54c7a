"""What an encoder costs, counted: parameters and their bits, and the arithmetic of a cloud, in each compressed form."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log2
from typing import Any

import torch
from torch import Tensor, nn

from geo3d.compress import Adaptive, Setting
from geo3d.encoders import DGCNN, PointNet, PointNet2
from geo3d.encoders.pointnet import Transform
from geo3d.errors import ConfigError
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.linear import Linear
from geo3d.nn.set_abstraction import PooledMLP, SetAbstraction

FLOAT = 32
"""Bits of a number that nothing has rounded, and the most that an accumulator has."""


@dataclass(frozen=True)
class Work:
    """One kind of arithmetic that one cloud needs.

    Attributes:
        name: The layer.
        macs: Multiplications, each with its addition.
        nonzero: Those whose weight is not zero; only these count in the score, as in the MicroNet challenge.
        multiply_bits: Those of the wider operand of a multiplication.
        add_bits: Those of the accumulator: as many as the sum needs without overflow, at most ``FLOAT``.
        distance_macs: Of distances between points, in single precision.
        adds: Additions alone: sums over windows of channels, norms, joining.
        compares: Of the maxima, on numbers of ``compare_bits``.
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
        """In 32-bit equivalents: every multiplication, addition and comparison by its bits."""
        bits = self.nonzero * (self.multiply_bits + self.add_bits) + self.compares * self.compare_bits
        return bits / FLOAT + 2 * self.distance_macs + self.adds


@dataclass(frozen=True)
class Cost:
    """What an encoder needs; all counts of arithmetic are for one cloud.

    Attributes:
        parameters: Numbers that inference needs, zeros of pruned weights and the masks' own parameters left out.
        weight_bits: Bits they take when each is stored with its own number of bits, a bit a weight for the places of
            the zeros where that is shorter, and the orders of channels.
        work: What the layers do.
    """

    parameters: int
    weight_bits: int
    work: tuple[Work, ...]

    @property
    def macs(self) -> int:
        """Multiplications (each with an addition) by weights, as dense matrices do them: zeros are multiplied, too."""
        return sum(each.macs for each in self.work)

    @property
    def distance_macs(self) -> int:
        """Multiplications of the searches for neighbours and samples, all pairs of points looked at."""
        return sum(each.distance_macs for each in self.work)

    @property
    def adds(self) -> int:
        """Additions that belong to no multiplication."""
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

    The rules are those of the MicroNet challenge (NeurIPS 2019): parameters count by their bits / 32, zeros of pruned
    matrices as one bit each; multiplications and additions count separately, each by the bits of its wider operand
    / 32, those with a weight of zero not at all. Distances between points and comparisons, which image networks have
    not, count in full. Nothing is taken to be of 16 bits for free.

    Example:
        >>> score(Cost(50, 400, (Work("a", 9, 9, 8, 16),)), Cost(50, 1600, (Work("a", 9, 9),)))
        0.625
    """
    return cost.weight_bits / reference.weight_bits + cost.operations / reference.operations


def cost(encoder: nn.Module, num_points: int, setting: Setting | None = None) -> Cost:
    """What the encoder needs for a cloud of ``num_points``, from its modules alone.

    DGCNN is counted factored, two products a point and layer; PointNet++ with every row of the ball query's tables,
    its first layer's features a point (the compiled operator works on repeated rows once, so this is the most).

    Args:
        encoder: One of ``geo3d.encoders``, in any compressed form.
        num_points: Points of a cloud.
        setting: Of an adaptive encoder, whose arithmetic is that of one setting; by default the one in use.

    Raises:
        ConfigError: If it is none of geo3d's encoders.
    """
    if isinstance(encoder, Adaptive):
        setting = setting or encoder.setting
        kept = min(setting.num_points, num_points)
        work = cost(encoder.at(setting), kept).work
        if kept < num_points:
            work = (Work("samples", distance_macs=3 * num_points * kept), *work)
    else:
        work = tuple(_work(encoder, num_points))
    stored = [_stored(module) for module in _kept(encoder)]
    if isinstance(encoder, Adaptive):  # statistics of the other settings; those of the first fold into its norms
        others = sum(b.numel() for b in encoder.statistics.buffers() if b.is_floating_point())
        stored.append((others, FLOAT * others))
    return Cost(sum(count for count, _ in stored), sum(bits for _, bits in stored), work)


def _work(encoder: nn.Module, num_points: int) -> Iterator[Work]:
    if isinstance(encoder, DGCNN):
        return _dgcnn(encoder, num_points)
    if isinstance(encoder, PointNet2):
        return _pointnet2(encoder, num_points)
    if isinstance(encoder, PointNet):
        return _pointnet(encoder, num_points)
    raise ConfigError(f"the arithmetic of a {type(encoder).__name__} is not known; expected one of geo3d.encoders")


def _kept(encoder: nn.Module) -> Iterator[nn.Module]:
    """The modules whose numbers inference needs: all but the masks, which leave zeros."""
    masked = [layer.mask for layer in encoder.modules() if isinstance(layer, Linear) and layer.mask is not None]
    masks = {id(part) for mask in masked for part in mask.modules()}
    return (module for module in encoder.modules() if id(module) not in masks)


def _factor(layer: Linear) -> Tensor:
    """(2 * out_channels, inner) what an edge convolution multiplies its points by, up to signs."""
    difference, center = layer.masked().chunk(2, 1)
    return torch.cat([center - difference, difference])


def _stored(module: nn.Module) -> tuple[int, int]:
    """Number of parameters and of bits that a module itself keeps."""
    own = dict(module.named_parameters(recurse=False))
    count, bits = 0, 0
    if isinstance(module, Linear):
        weight = own.pop("weight")
        values = module.masked()
        count, each = int(torch.count_nonzero(values)), weight_bits(module)
        bits = min(weight.numel() * each, count * each + weight.numel())
    rest = sum(value.numel() for value in own.values())
    # An order of channels is kept as whole numbers, each of as many bits as it takes to name a channel.
    orders = [b for b in module.buffers(recurse=False) if b.dim() == 1 and len(b) > 1 and b.dtype == torch.int64]
    indices = sum(len(order) * ceil(log2(len(order))) for order in orders)
    return count + rest, bits + FLOAT * rest + indices


def weight_bits(layer: Linear) -> int:
    """Bits of each weight of a layer."""
    return FLOAT if layer.quantizer is None else int(layer.quantizer.bits)


def _product(name: str, layer: Linear, rows: int, matrix: Tensor, rounded: bool = True, norm: bool = True) -> Work:
    """``matrix`` (outer, inner) times so many rows, with the norm behind it."""
    outer, inner = matrix.shape
    of_input = FLOAT if layer.input_quantizer is None or not rounded else int(layer.input_quantizer.bits)
    of_weight = weight_bits(layer)
    sum_bits = of_weight + of_input + ceil(log2(max(inner, 2)))
    return Work(
        name,
        macs=rows * outer * inner,
        nonzero=rows * int(torch.count_nonzero(matrix)),
        multiply_bits=max(of_weight, of_input),
        add_bits=FLOAT if FLOAT in (of_weight, of_input) else min(FLOAT, sum_bits),
        adds=rows * outer if norm else 0,
    )


def _windows(name: str, layer: Linear, rows: int) -> Iterator[Work]:
    """The sums over channels (or the narrow product) in front of a structured layer."""
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


def _dgcnn(encoder: DGCNN, n: int) -> Iterator[Work]:
    k, channels = min(encoder.k, n), encoder.in_channels
    for i, layer in enumerate(encoder.layers):
        assert isinstance(layer, EdgeConv)
        linear, name = layer.linear, f"layers.{i}"
        if encoder.dynamic or i == 0:
            yield Work(f"{name}.neighbours", distance_macs=n * n * (channels if encoder.dynamic else 3))
        yield from _windows(name, linear, n)
        yield _product(name, linear, n, _factor(linear))
        yield _largest(name, n * k * layer.out_channels, layer.table_quantizer)
        channels = layer.out_channels
    yield from _linear("embed", encoder.embed, n)
    yield Work("embed.mean", adds=n * encoder.embedding)
    yield _largest("embed", n * encoder.embedding)


def _pooled(name: str, pool: nn.Module, rows: int, first: bool = True) -> Iterator[Work]:
    """A small network on rows, then their maximum."""
    assert isinstance(pool, PooledMLP)
    for i, layer in enumerate(pool.linears):
        assert isinstance(layer, Linear)
        if i or first:
            yield from _linear(f"{name}.{i}", layer, rows)
    yield _largest(name, rows * pool.out_channels)


def _pointnet2(encoder: PointNet2, n: int) -> Iterator[Work]:
    total, points = n, n
    yield Work("samples", distance_macs=3 * n * min(encoder.num_samples[0], n))
    for i, (level, wanted) in enumerate(zip(encoder.levels, encoder.num_samples, strict=True)):
        assert isinstance(level, SetAbstraction)
        centers = min(wanted, points)
        for j, (scale, k) in enumerate(zip(level.scales, level.num_neighbors, strict=True)):
            assert isinstance(scale, PooledMLP)
            layer, name, edges = scale.linears[0], f"levels.{i}.scales.{j}", centers * k
            assert isinstance(layer, Linear)
            matrix = layer.masked()
            yield Work(f"{name}.neighbours", distance_macs=3 * centers * points)
            yield _product(f"{name}.offsets", layer, edges, matrix[:, :3], rounded=False)
            if matrix.shape[1] > 3:
                yield from _windows(f"{name}.0", layer, points)
                yield _product(f"{name}.0", layer, points, matrix[:, 3:], norm=False)
            yield from _pooled(name, scale, edges, first=False)
        points = centers
    yield from _pooled("last", encoder.last, points)
    yield Work("interpolation", distance_macs=3 * total * points, adds=3 * total * encoder.point_channels)


def _transform(name: str, net: nn.Module | None, n: int) -> Iterator[Work]:
    """A matrix predicted from the points, and the product of each point with it."""
    if net is None:
        return
    assert isinstance(net, Transform)
    yield from _pooled(f"{name}.pool", net.pool, n)
    for i, layer in enumerate(net.head):
        if isinstance(layer, Linear):
            yield from _linear(f"{name}.head.{i}", layer, 1)
    count = n * net.size**2
    yield Work(f"{name}.matrix", count, count)


def _pointnet(encoder: PointNet, n: int) -> Iterator[Work]:
    yield from _transform("input_net", encoder.input_net, n)
    local = encoder.local[0]
    assert isinstance(local, Linear)
    yield from _linear("local", local, n)
    yield from _transform("feature_net", encoder.feature_net, n)
    yield from _pooled("pool", encoder.pool, n)
