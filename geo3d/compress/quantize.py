"""Rounds weights and activations to few bits, with learned steps and offsets (LSQ+, arXiv 2004.09576)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import nn
from torch_geometric.data import Batch

from geo3d.checks import Length, Range, checked
from geo3d.compress.record import copied, records
from geo3d.errors import ConfigError
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.linear import Linear
from geo3d.nn.quantizer import Quantizer

BITS = range(2, 9)
FOLLOWING = {
    "layers.1.linear": "layers.0.linear",
    "pool.linears.0": "local.0",
    "feature_net.pool.linears.0": "local.0",
}
"""Which layer reads what another gives; in a pooled network the second reads the first's."""

Bits = Annotated[int, Range(2, 8)]


@checked
def quantize(
    encoder: nn.Module,
    weights: Bits = 8,
    activations: Bits = 8,
    *,
    first: Bits = 8,
    last: Bits = 8,
    layers: Mapping[str, Annotated[Sequence[Annotated[int, Range(0, 8)]], Length(2, 2)]] | None = None,
    per_channel: bool = True,
) -> nn.Module:
    """A copy whose linear layers work on rounded weights and inputs; its steps are set by the first training batch.

    Layers that read coordinates have ``first`` bits for their weights and for what they give to the next layer;
    coordinates stay as they are. Neighbours are told apart there by small differences. A layer without a norm behind
    it, such as the last one of a classifier, has ``last`` bits. Of an edge convolution the input, the two halves of the
    weight and the table of the neighbours' parts are rounded; the neighbours themselves are searched among the features
    as they were before rounding.

    Args:
        encoder: An encoder, or a head.
        weights: Bits of weights, 2 to 8 (8: whole numbers from -63 to 63, see :class:`geo3d.nn.quantizer.Quantizer`).
        activations: Bits of what enters the products, 2 to 8.
        first: Bits of the weights of layers that read coordinates, and of the inputs of the layers behind these.
        last: Bits of both in layers without a norm behind them.
        layers: Bits ``[weights, activations]`` of single layers by their path in the encoder, instead of the above; 0
            activations where a layer reads coordinates.
        per_channel: One step for each output channel; otherwise one for each matrix.

    Raises:
        ConfigError: For other numbers of bits, unknown layers, steps in another order, or if an earlier step is still
            to change the shapes of layers.
    """
    encoder = copied(encoder, "quantize")
    _check_shapes(encoder)
    bits = {name: _bits(encoder, name, layer, (weights, activations), first, last) for name, layer in linears(encoder)}
    for name, pair in dict(layers or {}).items():
        if name not in bits:
            raise ConfigError(
                f"layers: expected NAME: [weights, activations] with one of {', '.join(bits)}; found {name}: {pair}"
            )
        if pair[0] < 2 or pair[1] == 1 or (bits[name][1] and not pair[1]):
            raise ConfigError(f"layers.{name}: expected 2 to 8 bits of weights and of activations; found {list(pair)}")
        bits[name] = (pair[0], pair[1] if bits[name][1] else 0)
    record = {"step": "quantize", "bits": {name: list(pair) for name, pair in bits.items()}, "per_channel": per_channel}
    encoder = restore(encoder, record)
    encoder.compression = [*encoder.compression, record]  # type: ignore[assignment,misc]
    return encoder


def linears(encoder: nn.Module) -> list[tuple[str, Linear]]:
    """Path and module of every linear layer."""
    return [(name, module) for name, module in encoder.named_modules() if isinstance(module, Linear)]


def reads_coordinates(encoder: nn.Module, name: str, layer: Linear) -> bool:
    """Whether all that a layer reads comes as it is from the cloud."""
    is_encoder = hasattr(encoder, "point_channels") and hasattr(encoder, "in_channels")
    if name in ("layers.0.linear", "local.0", "input_net.pool.linears.0"):
        return is_encoder
    return layer.skip == layer.in_features


def _check_shapes(encoder: nn.Module) -> None:
    for record in records(encoder):
        shaping = record.get("regularize") or (record.get("group", "weight") != "weight" and not record["finished"])
        if shaping:
            raise ConfigError(
                f"quantize: {record['step']} is not finished and will change the layers' shapes; train and call "
                "compress.finish first, as geo3d compress does"
            )


def _bits(
    encoder: nn.Module, name: str, layer: Linear, bits: tuple[int, int], first: int, last: int
) -> tuple[int, int]:
    if reads_coordinates(encoder, name, layer):
        return first, 0
    before = FOLLOWING.get(name) or name.replace("linears.1", "linears.0")
    if (
        before != name
        and before in (named := dict(linears(encoder)))
        and reads_coordinates(encoder, before, named[before])
    ):
        return bits[0], first
    parent = encoder.get_submodule(name.rpartition(".")[0])
    ends = isinstance(parent, nn.Sequential) and parent[-1] is layer  # others have a norm behind them
    return (last, last) if ends else bits


def restore(encoder: nn.Module, record: Mapping[str, Any]) -> nn.Module:
    """The encoder with the quantisers that a record names, their steps not yet set."""
    modules = dict(encoder.named_modules())
    edges = {id(module.linear): module for module in modules.values() if isinstance(module, EdgeConv)}
    for name, (weights, activations) in record["bits"].items():
        layer = modules[name]
        assert isinstance(layer, Linear)
        edge = edges.get(id(layer))
        matrices = 1 if edge is None else 2
        groups = matrices * layer.out_features if record["per_channel"] else matrices
        layer.quantizer = Quantizer.of_weight(weights, groups).to(layer.weight)
        if activations:
            layer.input_quantizer = Quantizer.of_input(activations).to(layer.weight)
        if edge is not None:
            edge.table_quantizer = Quantizer.of_input(activations or 8, edge.out_channels).to(layer.weight)
    return encoder


@torch.no_grad()
def calibrate(encoder: nn.Module, batches: Iterable[Batch]) -> nn.Module:
    """The same encoder, steps and offsets that were not set yet now set by these clouds; norms are as in evaluation."""
    quantizers = [module for module in encoder.modules() if isinstance(module, Quantizer)]
    training = encoder.training
    encoder.eval()
    for quantizer in quantizers:
        quantizer.train()
    for batch in batches:
        encoder(batch)
    return encoder.train(training)


def finish(encoder: nn.Module) -> nn.Module:
    """The encoder as it is: rounding needs nothing at the end."""
    return encoder
