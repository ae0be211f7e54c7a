"""Physically smaller encoders: output channels taken out for good, together with what they fed."""

import inspect
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geo3d import seeds
from geo3d.encoders import DGCNN, PointNet2
from geo3d.encoders.pointnet2 import DEFAULTS
from geo3d.errors import ConfigError
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm
from geo3d.nn.structured import LowRank


class Source(NamedTuple):
    """Columns of a layer's input."""

    of: str | int
    """The layer whose outputs they are, or their number if they come from outside."""
    rows: float
    """How often each is multiplied: for a point of DGCNN, for a cloud of PointNet++."""


class Layer(NamedTuple):
    """A linear layer, its norm, and what it reads."""

    name: str
    norm: str
    sources: tuple[Source, ...]
    slope: float
    """Of the activation behind its norm, below zero."""
    halves: bool = False
    """Whether its weight has two halves over the same columns: an edge convolution."""
    output: bool = False
    """Whether it makes the cloud's features."""


def wiring(encoder: nn.Module) -> list[Layer]:
    """The layers of an encoder in the order of the data, with whose outputs they read.

    Raises:
        ConfigError: If the encoder is neither a DGCNN nor a PointNet2: the widths of others cannot be set one by one.
    """
    if isinstance(encoder, DGCNN):
        names = [f"layers.{i}" for i in range(len(encoder.channels))]
        reads: list[str | int] = [encoder.in_channels, *(f"{name}.linear" for name in names)]
        edges = [
            Layer(f"{name}.linear", f"{name}.norm", (Source(of, 1.0),), encoder.negative_slope, halves=True)
            for name, of in zip(names, reads, strict=False)
        ]
        every = tuple(Source(of, 1.0) for of in reads[1:])
        return [*edges, Layer("embed", "norm", every, encoder.negative_slope, output=True)]
    if isinstance(encoder, PointNet2):
        return _levels(encoder)
    raise ConfigError(
        f"channels of a {type(encoder).__name__} cannot be taken out; use a DGCNN or a PointNet2, or group='weight'"
    )


def _levels(encoder: PointNet2) -> list[Layer]:
    layers: list[Layer] = []
    features: tuple[str | int, ...] = (encoder.in_channels - 3,)
    points = 2.0 * encoder.num_samples[0]  # of the cloud: not known here, as published
    for i, (level, wanted) in enumerate(zip(encoder.levels, encoder.num_samples, strict=True)):
        outs = []
        for s, k in enumerate(level.num_neighbors):  # type: ignore[arg-type]
            path, rows = f"levels.{i}.scales.{s}", float(wanted * k)
            layers += _steps(path, features, points, rows, len(level.scales[s].linears))  # type: ignore[index, union-attr]
            outs.append(layers[-1].name)
        features, points = tuple(outs), float(wanted)
    *inner, last = _steps("last", features, points, points, len(encoder.last.linears))
    return [*layers, *inner, last._replace(output=True)]


def _steps(path: str, features: Sequence[str | int], points: float, rows: float, count: int) -> list[Layer]:
    """The layers of one small network: features enter once a point, coordinates once a neighbour."""
    sources = (Source(3, rows), *(Source(of, points) for of in features))
    layers = []
    for i in range(count):
        layers.append(Layer(f"{path}.linears.{i}", f"{path}.norms.{i}", sources, slope=0.0))
        sources = (Source(layers[-1].name, rows),)
    return layers


def multiplications(
    layers: Sequence[Layer], linears: Mapping[str, Linear], outputs: Mapping[str, Any], density: Mapping[str, Any]
) -> Any:
    """How many there are, for a point or a cloud: a number, or a tensor if sizes are tensors.

    Args:
        layers: A wiring.
        linears: Its linear layers by name.
        outputs: Of some layers the number of output channels; others have them all.
        density: Of some layers the share of weights that are not zero.
    """
    sizes = {name: len(linear.weight) for name, linear in linears.items()} | dict(outputs)
    total: Any = 0.0
    for layer in layers:
        linear = linears[layer.name]
        columns = sum(one.rows * (sizes[one.of] if isinstance(one.of, str) else one.of) for one in layer.sources)
        if isinstance(linear.pool, LowRank):
            total = total + linear.pool.rank * columns
        if linear.pool is not None:  # the matrix behind the pool keeps its width
            columns = layer.sources[-1].rows * linear.weight.shape[1]
        elif layer.halves:
            columns = 2 * columns
        total = total + density.get(layer.name, 1.0) * sizes[layer.name] * columns
    return total


def removable(encoder: nn.Module, layers: Sequence[Layer], output: bool = False) -> list[str]:
    """The layers whose output channels can be taken out.

    A structured layer sums windows of its inputs in a fixed order, in which each input belongs to several windows: no
    input can be missing. So what a structured layer reads stays as it is; its own outputs may go if those who read
    them are dense (or of low rank, which is dense, too).

    Args:
        encoder: What ``layers`` are of.
        layers: Its wiring.
        output: Whether the layer that makes the cloud's features may lose some.
    """
    pools = [(layer, encoder.get_submodule(layer.name).pool) for layer in layers]
    fixed = {one.of for layer, pool in pools if not isinstance(pool, LowRank | None) for one in layer.sources}
    return [layer.name for layer in layers if layer.name not in fixed and (output or not layer.output)]


def shrink(encoder: nn.Module, kept: Mapping[str, Tensor]) -> nn.Module:
    """An encoder of the same class with fewer channels that computes what the given one does with rows at zero.

    A channel whose row is zero is the constant ``act(beta - mean gamma / sigma)`` behind its norm, and what a constant
    adds to the next layer is a constant that the next norm subtracts again in training, and that is folded into its
    running mean (or the layer's bias) for evaluation. Neighbours in the space of the features do not depend on it.
    The features of points lose the channels that are taken out of a last level or an edge convolution.

    Args:
        encoder: A DGCNN or a PointNet2; it is not changed.
        kept: For names of linear layers (out,) bool, True where an output channel stays.

    Raises:
        ConfigError: If the encoder is of another class, a name or a length does not fit, a layer would lose all its
            channels, or one that a structured layer reads would lose some.
    """
    layers = wiring(encoder)
    keep = {one.name: _keep(encoder, one.name, kept) for one in layers}
    _check(encoder, layers, keep, kept)
    with seeds.seeded("shrink"):  # what is drawn here is replaced below
        small = type(encoder)(**_keywords(encoder, layers, {name: int(k.sum()) for name, k in keep.items()}))
    stands: dict[str, Tensor] = {}  # what the channels that go are, behind the activation; 0 for those that stay
    for layer in layers:
        linear, norm = _pair(encoder, layer)
        columns = _joined(layer, keep, linear.weight, torch.ones).bool()
        constant = _joined(layer, stands, linear.weight, torch.zeros)
        stands[layer.name] = _standing(linear, norm, layer.slope).masked_fill(keep[layer.name], 0.0)
        less, fewer = _fewer_rows(linear, norm, keep[layer.name], _added(linear, constant, layer.halves))
        _put(small, layer.name, _fewer_columns(less, columns, layer.halves))
        _put(small, layer.norm, fewer)
    if hasattr(encoder, "compression"):
        small.compression = deepcopy(encoder.compression)
    return small.train(encoder.training)


def _pair(encoder: nn.Module, layer: Layer) -> tuple[Linear, BatchNorm]:
    linear, norm = encoder.get_submodule(layer.name), encoder.get_submodule(layer.norm)
    assert isinstance(linear, Linear) and isinstance(norm, BatchNorm)
    return linear, norm


def _keep(encoder: nn.Module, name: str, kept: Mapping[str, Tensor]) -> Tensor:
    weight = encoder.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    every = torch.ones_like(weight[:, 0], dtype=torch.bool)
    return kept[name].to(every.device, torch.bool) if name in kept else every


def _check(
    encoder: nn.Module, layers: Sequence[Layer], keep: Mapping[str, Tensor], asked: Mapping[str, Tensor]
) -> None:
    if unknown := sorted(set(asked) - set(keep)):
        raise ConfigError(
            f"there is no layer {unknown[0]!r} in this {type(encoder).__name__}; it has {', '.join(keep)}"
        )
    free = removable(encoder, layers, output=True)
    for name, k in keep.items():
        linear = encoder.get_submodule(name)
        assert isinstance(linear, Linear)
        if len(k) != len(linear.weight):
            raise ConfigError(f"kept[{name!r}]: expected {len(linear.weight)} entries, one an output; found {len(k)}")
        if not bool(k.any()):
            raise ConfigError(f"{name} would lose all its {len(k)} channels; keep at least one")
        if name not in free and not bool(k.all()):
            raise ConfigError(f"{name} feeds a structured layer, which needs all its inputs; leave {name} out of kept")
        if linear.quantizer is not None or linear.input_quantizer is not None:
            raise ConfigError(f"{name} is quantised; take channels out before quantize, not after")


def _joined(layer: Layer, parts: Mapping[str, Tensor], like: Tensor, outside: Any) -> Tensor:
    """One entry for each channel that the layer reads; ``outside`` makes those of what is no layer's output."""
    pieces = [
        parts[source.of].to(like) if isinstance(source.of, str) else outside(source.of).to(like)
        for source in layer.sources
    ]
    return torch.cat(pieces)


@torch.no_grad()
def _standing(linear: Linear, norm: BatchNorm, slope: float) -> Tensor:
    """(out,) what each channel is behind the activation if its row is zero."""
    value = norm.bias.clone()
    if norm.running_mean is not None and norm.running_var is not None:
        before = 0.0 if linear.bias is None else linear.bias
        value += (before - norm.running_mean) * norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return F.leaky_relu(value, slope)


@torch.no_grad()
def _added(linear: Linear, constant: Tensor, halves: bool) -> Tensor:
    """(out,) what constant inputs add to each output; for an edge, whose differences are zero, as its centre."""
    values, matrix = linear.inputs(constant[None])[0], linear.masked()
    return (matrix.chunk(2, 1)[1] if halves else matrix) @ values


@torch.no_grad()
def _fewer_rows(linear: Linear, norm: BatchNorm, keep: Tensor, added: Tensor) -> tuple[Linear, BatchNorm]:
    """Copies with the outputs ``keep``, and with what constants add to them folded in."""
    weight = linear.masked().detach()[keep]
    mask, linear.mask = linear.mask, None
    less, linear.mask = deepcopy(linear), mask
    fewer = deepcopy(norm)
    less.weight, less.out_features = nn.Parameter(weight), len(weight)
    if linear.bias is not None:
        less.bias = nn.Parameter(linear.bias.detach()[keep] + added[keep])
    for name, value in (*norm.named_parameters(), *norm.named_buffers()):
        if value.dim():
            getattr(fewer, name).data = value.detach()[keep].clone()
    fewer.num_features = len(weight)
    if linear.bias is None and fewer.running_mean is not None:
        fewer.running_mean -= added[keep]
    return less, fewer


@torch.no_grad()
def _fewer_columns(linear: Linear, columns: Tensor, halves: bool) -> Linear:
    """The layer, changed in place, with the inputs ``columns``."""
    if linear.pool is None:
        linear.weight = nn.Parameter(linear.weight.detach()[:, columns.repeat(2) if halves else columns])
        linear.in_features = linear.weight.shape[1]
    elif isinstance(linear.pool, LowRank):
        linear.pool.weight = nn.Parameter(linear.pool.weight.detach()[:, columns[linear.skip :]])
        linear.pool.in_channels = linear.pool.weight.shape[1]
    return linear


def _put(encoder: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, leaf = path.rpartition(".")
    setattr(encoder.get_submodule(parent), leaf, module)


def _keywords(encoder: nn.Module, layers: Sequence[Layer], sizes: Mapping[str, int]) -> dict[str, Any]:
    """The constructor keywords of an encoder whose layers have so many outputs."""
    keywords = {name: getattr(encoder, name) for name in list(inspect.signature(type(encoder)).parameters)}
    if isinstance(encoder, DGCNN):
        *channels, embedding = (sizes[layer.name] for layer in layers)
        return keywords | {"channels": tuple(channels), "embedding": embedding}
    assert isinstance(encoder, PointNet2)
    left = iter([sizes[layer.name] for layer in layers])

    def taken(old: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(taken(one) if isinstance(one, Sequence) else next(left) for one in old)

    return keywords | {"channels": taken(encoder.channels or DEFAULTS[encoder.scales]["channels"]), "width": 1.0}
