"""Rounds weights and activations to few bits, with learned steps and offsets (LSQ+, arXiv 2004.09576)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import torch
from torch import nn
from torch_geometric.data import Batch

from geo3d.checks import Length, Range, checked
from geo3d.compress.record import copied, records
from geo3d.errors import ConfigError
from geo3d.nn.describe import graph_of
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.graph import input_layers, layers_of
from geo3d.nn.linear import Linear
from geo3d.nn.quantizer import Quantizer

BITS = range(2, 9)
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

    Layers that read nothing but what the cloud comes with have ``first`` bits for their weights and for what they give
    to the next layer; coordinates stay as they are. Neighbours are told apart there by small differences. A layer
    without a norm behind it, such as the last one of a classifier, has ``last`` bits. Of an edge convolution we round
    the input, the two halves of the weight and the table of the neighbours' parts; the neighbours themselves are
    searched among the features as they were before rounding.

    Args:
        encoder: An encoder or a head that describes itself (``layer_graph``).
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
    bits = _bits(encoder, (weights, activations), first, last)
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


def _check_shapes(encoder: nn.Module) -> None:
    for record in records(encoder):
        shaping = record.get("regularize") or (record.get("group", "weight") != "weight" and not record["finalized"])
        if shaping:
            raise ConfigError(
                f"quantize: {record['step']} is not finalized and will change the layers' shapes; train and call "
                "compress.finalize first, as geo3d compress does"
            )


def _bits(encoder: nn.Module, bits: tuple[int, int], first: int, last: int) -> dict[str, tuple[int, int]]:
    """Bits of the weights and of the inputs of every layer."""
    ops = graph_of(encoder, "quantize")
    inputs, found = input_layers(ops), {}
    for layer in layers_of(ops):
        if layer.name in inputs:
            found[layer.name] = (first, 0)
        elif not layer.norm:
            found[layer.name] = (last, last)
        else:
            behind = all(source.of in inputs for source in layer.sources)
            found[layer.name] = (bits[0], first if behind else bits[1])
    return found


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
        layer.quantizer = Quantizer.for_weights(weights, groups).to(layer.weight)
        if activations:
            layer.input_quantizer = Quantizer.for_activations(activations).to(layer.weight)
        if edge is not None:
            edge.neighbor_quantizer = Quantizer.for_activations(activations or 8, edge.out_channels).to(layer.weight)
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


def finalize(encoder: nn.Module) -> nn.Module:
    """The encoder as it is: rounding needs nothing at the end."""
    return encoder
