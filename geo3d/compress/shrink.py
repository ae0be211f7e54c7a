"""Physically smaller encoders: removes output channels of layers, and the columns of later layers that read them."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geo3d import seeds
from geo3d.errors import ConfigError
from geo3d.nn.describe import graph_of
from geo3d.nn.graph import Layer, layers_of
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm
from geo3d.nn.structured import LowRank


def multiplications(
    layers: Sequence[Layer], linears: Mapping[str, Linear], outputs: Mapping[str, Any], density: Mapping[str, Any]
) -> Any:
    """Number of multiplications for one cloud of as many points as ``layers`` were counted for.

    It is a tensor if ``outputs`` or ``density`` hold tensors.

    Args:
        layers: The layers of a graph, from :func:`geo3d.nn.graph.layers_of`.
        linears: Their linear layers by name.
        outputs: Number of output channels of some layers, by name; the others keep all.
        density: Fraction of weights that are not zero in some layers, by name; 1 in the others.
    """
    sizes = {name: len(linear.weight) for name, linear in linears.items()} | dict(outputs)
    total: Any = 0.0
    for layer in layers:
        linear = linears[layer.name]
        columns = sum(one.rows * (sizes[one.of] if isinstance(one.of, str) else one.of) for one in layer.sources)
        if isinstance(linear.pool, LowRank):
            total = total + linear.pool.rank * columns
        if linear.pool is not None:  # the matrix after the pool keeps its width
            columns = layer.sources[-1].rows * linear.weight.shape[1]
        elif layer.halves:
            columns = 2 * columns
        total = total + density.get(layer.name, 1.0) * sizes[layer.name] * columns
    return total


def prunable(encoder: nn.Module, layers: Sequence[Layer], output: bool = False) -> list[str]:
    """Names of the layers whose output channels can be removed.

    A structured layer sums windows of its inputs in a fixed order, and each input belongs to several windows, so none
    can be missing. Hence a layer that a structured layer reads keeps all its outputs. A structured layer itself may
    lose outputs if the layers that read it are dense or of low rank.

    Args:
        encoder: The encoder.
        layers: The layers of its graph.
        output: Whether the layer that makes the cloud features may lose channels.
    """
    pools = [(layer, encoder.get_submodule(layer.name).pool) for layer in layers]
    fixed = {one.of for layer, pool in pools if not isinstance(pool, LowRank | None) for one in layer.sources}
    return [layer.name for layer in layers if layer.name not in fixed and (output or not layer.output)]


def shrink(encoder: nn.Module, kept: Mapping[str, Tensor]) -> nn.Module:
    """A smaller encoder of the same class, which computes what the given one does with the removed rows set to zero.

    A channel whose row is zero is the constant ``act(beta - mean gamma / sigma)`` after its norm and activation. What a
    constant adds to the next layer is a constant too: in training the next norm subtracts it, and for evaluation it is
    folded into that norm's running mean (or the layer's bias). Nearest neighbours among features do not depend on it.
    The point features lose the channels that are removed from a last level or an edge convolution.

    Args:
        encoder: An encoder with ``layer_graph`` and ``with_channels``; not changed.
        kept: By name of a linear layer: (out,) bool, True where an output channel stays. Other layers keep all.

    Raises:
        ConfigError: If the encoder does not describe itself or refuses other widths, a name or a length does not fit, a
            layer has no norm, a layer would lose all its channels, a layer that a structured layer reads would lose
            some, or a layer is quantised.
    """
    layers = layers_of(graph_of(encoder, "shrink"))
    keep = {one.name: _keep(encoder, one.name, kept) for one in layers}
    _check(encoder, layers, keep, kept)
    with seeds.seeded("shrink"):  # what is drawn here is replaced below
        small: nn.Module = encoder.with_channels({name: int(k.sum()) for name, k in keep.items()})  # type: ignore[operator]
    if bare := [layer.name for layer in layers if not layer.norm]:
        raise ConfigError(f"shrink: {bare[0]} has no norm behind it; channels go only where every layer has one")
    stands: dict[str, Tensor] = {}  # the constants, after the activation, of removed channels; 0 for those that stay
    for layer in layers:
        linear, norm = _pair(encoder, layer)
        columns = _joined(layer, keep, linear.weight, torch.ones).bool()
        constant = _joined(layer, stands, linear.weight, torch.zeros)
        stands[layer.name] = _constant_outputs(linear, norm, layer.slope).masked_fill(keep[layer.name], 0.0)
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
    free = prunable(encoder, layers, output=True)
    for name, k in keep.items():
        linear = encoder.get_submodule(name)
        assert isinstance(linear, Linear)
        if len(k) != len(linear.weight):
            raise ConfigError(f"kept[{name!r}]: expected {len(linear.weight)} entries, one per output; found {len(k)}")
        if not bool(k.any()):
            raise ConfigError(f"{name} would lose all its {len(k)} channels; keep at least one")
        if name not in free and not bool(k.all()):
            raise ConfigError(f"{name} feeds a structured layer, which needs all its inputs; leave {name} out of kept")
        if linear.quantizer is not None or linear.input_quantizer is not None:
            raise ConfigError(f"{name} is quantised; remove channels before quantize, not after")


def _joined(layer: Layer, parts: Mapping[str, Tensor], like: Tensor, outside: Any) -> Tensor:
    """One entry per input channel of the layer; ``outside(n)`` makes the entries of n inputs of the network."""
    pieces = [
        parts[source.of].to(like) if isinstance(source.of, str) else outside(source.of).to(like)
        for source in layer.sources
    ]
    return torch.cat(pieces)


@torch.no_grad()
def _constant_outputs(linear: Linear, norm: BatchNorm, slope: float) -> Tensor:
    """(out,) value of each channel after the activation if its row is zero."""
    value = norm.bias.clone()
    if norm.running_mean is not None and norm.running_var is not None:
        before = 0.0 if linear.bias is None else linear.bias
        value += (before - norm.running_mean) * norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return F.leaky_relu(value, slope)


@torch.no_grad()
def _added(linear: Linear, constant: Tensor, halves: bool) -> Tensor:
    """(out,) what constant inputs add to each output; in an edge convolution only by the centre's half of the weight.

    The neighbours' half multiplies differences, which are zero for constants.
    """
    values, matrix = linear.inputs(constant[None])[0], linear.masked()
    return (matrix.chunk(2, 1)[1] if halves else matrix) @ values


@torch.no_grad()
def _fewer_rows(linear: Linear, norm: BatchNorm, keep: Tensor, added: Tensor) -> tuple[Linear, BatchNorm]:
    """Copies of layer and norm with only the outputs ``keep``; ``added`` is folded into the bias or running mean."""
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
    """The layer, changed in place, with only the inputs ``columns``."""
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
