"""Quantised weights as packed integer codes, as checkpoints store them."""

import torch
from torch import Tensor, nn

from geo3d.checkpoint.bits import pack_bits, unpack_bits
from geo3d.errors import CheckpointError
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.linear import Linear
from geo3d.ops.dense.matrix import signs
from geo3d.ops.edge.conv import center_and_neighbor_weights


def _rounded(module: nn.Module) -> list[tuple[str, Linear, EdgeConv | None]]:
    """Path, layer and the edge convolution around it (None if there is none), for each layer with quantised weights."""
    layers: list[tuple[str, Linear, EdgeConv | None]] = []
    edges = {id(edge.linear): edge for edge in module.modules() if isinstance(edge, EdgeConv)}
    for name, layer in module.named_modules():
        if isinstance(layer, Linear) and layer.quantizer is not None:
            layers.append((name, layer, edges.get(id(layer))))
    return layers


def _matrix(layer: Linear, edge: EdgeConv | None) -> Tensor:
    """The matrix that the layer's quantiser rounds: the weight, or [Wc ; Wd] in an edge convolution."""
    return layer.masked() if edge is None else center_and_neighbor_weights(layer.masked(), edge.norm.weight)[0]


def _exact(layer: Linear) -> bool:
    """Whether the codes determine the weight: the quantiser is initialised, and there is no mask or it is frozen."""
    return bool(layer.quantizer.initialized) and (layer.mask is None or bool(layer.mask.frozen))


@torch.no_grad()
def as_codes(module: nn.Module) -> dict[str, Tensor]:
    """The module's state dict, in which ``PATH.codes``, packed, replaces the weight of each quantised layer.

    A layer keeps its weight as long as its quantiser is not initialised or its pruning mask is not frozen.
    """
    state = dict(module.state_dict())
    for name, layer, edge in _rounded(module):
        if _exact(layer):
            del state[f"{name}.weight"]
            state[f"{name}.codes"] = pack_bits(layer.quantizer.codes(_matrix(layer, edge)), layer.quantizer.bits)
    return state


@torch.no_grad()
def from_codes(module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with weights in place of codes, ready for ``module.load_state_dict``.

    Args:
        module: A module of the right shapes; its quantisers are loaded from ``state``, its other values do not matter.
        state: A state dict made by :func:`as_codes`.

    Raises:
        CheckpointError: If the codes of a layer do not have the size that the layer needs.
    """
    state = dict(state)
    for name, layer, edge in _rounded(module):
        packed = state.pop(f"{name}.codes", None)
        if packed is None:
            continue
        prefix = f"{name}.quantizer."
        layer.quantizer.load_state_dict({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})
        rows, columns = layer.weight.shape
        shape = (rows, columns) if edge is None else (2 * rows, columns // 2)
        try:
            values = layer.quantizer.from_codes(unpack_bits(packed, layer.quantizer.bits, shape, signed=True))
        except CheckpointError as error:
            raise CheckpointError(f"{name}.codes: {error}") from None
        if edge is not None:
            gamma = state[f"{name.removesuffix('linear')}norm.weight"]
            of_center, of_neighbor = (values * signs(gamma).repeat(2)[:, None]).chunk(2)
            values = torch.cat([of_neighbor, of_center], 1)
        state[f"{name}.weight"] = values
    return state
