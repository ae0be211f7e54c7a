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
    """A copy whose linear layers round their weights and inputs; the first training batch sets the steps.

    The first layers, which read only the network's inputs (coordinates and extra channels), have ``first`` bits for
    their weights, and so have the inputs of the layers right after them, because neighbours differ only a little there.
    The network's inputs themselves are not rounded. A layer without a norm, such as the last one of a classifier, has
    ``last`` bits. An edge convolution rounds its input, the two halves of its weight, and the neighbours' part b;
    neighbours are searched among the features before rounding.

    Args:
        encoder: An encoder or a head with a ``layer_graph``.
        weights: Bits of weights, 2 to 8. Codes stay within -63 to 63, see :class:`geo3d.nn.quantizer.Quantizer`.
        activations: Bits of the inputs of the products, 2 to 8.
        first: Bits of the weights of the first layers, and of the inputs of the layers right after them.
        last: Bits of weights and inputs in layers without a norm.
        layers: Bits ``[weights, activations]`` of single layers by path, instead of the above. The first layers take 0
            for activations, as their inputs are not rounded.
        per_channel: One step for each output channel; otherwise one for each matrix.

    Raises:
        ConfigError: If a number of bits or the name of a layer does not fit, this step is out of order, or an earlier
            step still has to change the shapes of layers.
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
    """Bits of the weights and of the inputs of every layer, by name."""
    ops = graph_of(encoder, "quantize")
    inputs, layer_bits = input_layers(ops), {}
    for layer in layers_of(ops):
        if layer.name in inputs:
            layer_bits[layer.name] = (first, 0)
        elif not layer.norm:
            layer_bits[layer.name] = (last, last)
        else:
            after_first = all(source.of in inputs for source in layer.sources)
            layer_bits[layer.name] = (bits[0], first if after_first else bits[1])
    return layer_bits


def restore(encoder: nn.Module, record: Mapping[str, Any]) -> nn.Module:
    """The encoder, changed in place, with the quantisers that the record describes; their steps are not yet set."""
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
    """The same encoder, after these clouds have set the steps and offsets that were not set yet.

    Everything but the quantisers runs in evaluation mode.
    """
    quantizers = [module for module in encoder.modules() if isinstance(module, Quantizer)]
    training = encoder.training
    encoder.eval()
    for quantizer in quantizers:
        quantizer.train()
    for batch in batches:
        encoder(batch)
    return encoder.train(training)


def finalize(encoder: nn.Module) -> nn.Module:
    """The encoder unchanged: there is nothing to do after training."""
    return encoder
