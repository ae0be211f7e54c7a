"""The settings of an adaptive encoder, and what a setting selects: leading channels, first layers, fewer points."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d.cloud import Layout, common_size, select_points
from geo3d.encoders.dgcnn import DGCNN
from geo3d.errors import ConfigError
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm
from geo3d.nn.quantizer import Quantizer
from geo3d.ops.search.farthest import farthest_points


class Setting(NamedTuple):
    """One setting of an adaptive encoder: the sub-network, its number of neighbours, and the size of the clouds.

    Example:
        >>> str(Setting(0.5, 4, 20, 512))
        'w0.5-d4-k20-n512'
    """

    width: float
    """Fraction of the channels of every layer."""
    depth: int
    """How many edge convolutions are used."""
    k: int
    """Neighbours per point."""
    num_points: int
    """Largest number of points per cloud."""

    def __str__(self) -> str:
        return f"w{self.width:g}-d{self.depth}-k{self.k}-n{self.num_points}"


def check_choices(
    inner: DGCNN, widths: Sequence[float], depths: Sequence[int], ks: Sequence[int], points: Sequence[int]
) -> None:
    """Check that the encoder can be run with these choices, each list sorted from the largest to the smallest.

    Raises:
        ConfigError: If it cannot.
    """
    depth = len(inner.layers)
    if not all((widths, depths, ks, points)):
        raise ConfigError("adapt needs at least one of each of widths, depths, ks and points; found an empty list")
    if widths[0] != 1 or widths[-1] <= 0:
        raise ConfigError(f"widths must be fractions above 0 and up to 1, with 1 among them; found {list(widths)}")
    if depths[0] != depth or depths[-1] < 1:
        raise ConfigError(
            f"depths must be from 1 to {depth}, the encoder's number of edge convolutions, with {depth} among them; "
            f"found {list(depths)}"
        )
    if ks[-1] < 1 or points[-1] < 1:
        raise ConfigError(f"ks and points must be positive; found {list(ks)} and {list(points)}")
    if (len(widths), len(depths)) != (1, 1) and structured(inner):
        raise ConfigError(
            "a structured encoder cannot be made narrower or shorter, as its layers sum fixed windows of channels; "
            "leave out widths and depths and choose among ks and points"
        )


def structured(encoder: nn.Module) -> bool:
    """Whether any layer of the encoder pools its input channels before its product."""
    return any(isinstance(module, Linear) and module.pool is not None for module in encoder.modules())


def farthest_subset(batch: Batch, sizes: Iterable[int]) -> dict[int, Batch]:
    """For each n in ``sizes``: the batch with at most n points per cloud, chosen by farthest-point sampling.

    The subsets are nested: the smaller of two is the beginning of the larger, because all come from one farthest-point
    order. If no cloud has more than n points, the batch itself is returned for n.
    """
    sizes, size = sorted(set(sizes)), common_size(batch)
    lengths = batch.ptr.diff()
    longest = int(lengths.max()) if size is None else size
    out = {n: batch for n in sizes if n >= longest}
    fewer = [n for n in sizes if n < longest]
    if not fewer:
        return out
    order = farthest_points(batch.pos, Layout(batch.ptr, size), fewer[-1], start="farthest").view(-1, fewer[-1])
    for n in fewer:
        if size is not None:
            out[n] = select_points(batch, order[:, :n].reshape(-1), num_points=n)
        else:  # the order of a cloud with fewer than n points starts again after its last point
            kept = torch.arange(n, device=order.device) < lengths[:, None]
            out[n] = select_points(batch, order[:, :n][kept], ptr=F.pad(lengths.clamp_max(n).cumsum(0), (1, 0)))
    return out


def scaled(channels: int, width: float) -> int:
    """``width * channels`` rounded to the nearest multiple of 8, at least 8 and at most ``channels``.

    With width 1 the number of channels stays as it is.

    Example:
        >>> scaled(64, 0.25), scaled(20, 0.5), scaled(12, 0.1), scaled(20, 1.0)
        (16, 8, 8, 20)
    """
    return channels if width == 1 else min(channels, max(8, 8 * int(width * channels / 8 + 0.5)))


def slice_encoder(inner: DGCNN, width: float, depth: int) -> DGCNN:
    """A DGCNN of the first ``depth`` layers with a fraction of their channels, its weights on torch's meta device.

    Weight quantizers share the full encoder's steps, so the codes of a sub-network are a slice of the stored ones.
    Activation quantizers are the sub-network's own, because what they round depends on the width. They start as copies
    of the full encoder's.

    Raises:
        ConfigError: If a layer rounds its inputs with one step per channel.
    """
    keywords = {name: getattr(inner, name) for name in inspect.signature(DGCNN).parameters}
    channels = [scaled(count, width) for count in inner.channels[:depth]]
    with torch.device("meta"):
        form = DGCNN(**keywords | {"channels": channels, "embedding": scaled(inner.embedding, width)})
    for name, module in list(form.named_modules()):
        full = inner.get_submodule(name)
        if isinstance(module, BatchNorm) and isinstance(full, BatchNorm):
            module.eps, module.momentum, module.sync = full.eps, full.momentum, full.sync
        elif isinstance(module, Linear) and isinstance(full, Linear):
            if full.input_quantizer is not None and full.input_quantizer.granularity.groups > 1:
                raise ConfigError(
                    f"{name}: adapt needs one step for all input channels of a layer; found one step per channel"
                )
            module.input_quantizer = deepcopy(full.input_quantizer)
            module.quantizer = _of_fewer(full.quantizer, full.out_features, module.out_features)
            if module.quantizer is not None:
                module.quantizer.to("meta").eval()
        elif isinstance(module, EdgeConv) and isinstance(full, EdgeConv):
            module.neighbor_quantizer = _of_fewer(full.neighbor_quantizer, full.out_channels, module.out_channels)
    return form


def leading(steps: Tensor, full: int, small: int) -> Tensor:
    """The steps of the first ``small`` of ``full`` channels, for each matrix that the quantizer rounds.

    The quantizer of an edge convolution rounds two matrices of ``full`` rows. Steps that are not one per channel (fewer
    than ``full``) are returned unchanged.

    Example:
        >>> leading(torch.arange(8), 4, 2).tolist(), leading(torch.arange(2), 4, 2).tolist()
        ([0, 1, 4, 5], [0, 1])
    """
    return steps if len(steps) < full else steps.view(-1, full)[:, :small].reshape(-1)


def _of_fewer(quantizer: Quantizer | None, full: int, small: int) -> Quantizer | None:
    """A copy of the quantizer for the first ``small`` of ``full`` output channels."""
    copy = deepcopy(quantizer)
    if copy is not None:
        for parameter in copy.parameters():
            parameter.data = leading(parameter.data, full, small).clone()
        copy.granularity = replace(copy.granularity, groups=len(copy.log_step))
    return copy


def own_quantizers(form: DGCNN) -> dict[str, nn.Module]:
    """The activation quantizers of a sub-network; dots in their names become underscores, as ``ModuleDict`` needs."""
    quantizers = {name: module for name, module in form.named_modules() if isinstance(module, Quantizer)}
    return {name.replace(".", "_"): module for name, module in quantizers.items() if not module.log_step.is_meta}


def remaining(records: Iterable[Mapping[str, Any]], form: DGCNN, full: bool) -> list[dict[str, Any]]:
    """The compression records of a stand-alone sub-network.

    A sub-network smaller than the full encoder keeps only the record of ``quantize``, for the layers that it has: its
    weights have the masks of pruning already applied.

    Args:
        records: Those of the adaptive encoder.
        form: The sub-network.
        full: Whether it has the full width and depth.
    """
    out = [dict(record) for record in records if record["step"] != "adapt" and (full or record["step"] == "quantize")]
    for record in out:
        if record["step"] == "quantize":
            names = dict(form.named_modules())
            record["bits"] = {name: bits for name, bits in record["bits"].items() if name in names}
    return out
