"""Pruning with learned thresholds: single weights, output channels, or blocks of them; soft first, hard at the end."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from geo3d.checks import OneOf, Range, checked
from geo3d.compress.record import copied, records
from geo3d.compress.shrink import multiplications, prunable, shrink
from geo3d.errors import ConfigError
from geo3d.nn.describe import graph_of
from geo3d.nn.graph import Layer, layers_of
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm
from geo3d.nn.threshold import Threshold

LANES = 8
"""Layers of 16 channels and more keep a multiple of this number: the kernels work on 8 or 16 channels at a time."""

Thresholds = dict[str, tuple[Threshold, Tensor]]
"""By layer name: the threshold, and the weight it acts on."""

RANGE = 60.0
"""The logarithm of the common factor of the thresholds is searched between minus and plus this."""


class Sparsity(nn.Module):
    """The penalty of pruning: how far the soft fraction of multiplications kept is from the target.

    With a target the penalty is ``strength * (fraction / target - 1)^2``, where the fraction is that of the whole
    encoder, so that layers find their own fractions. Without a target it is ``strength * fraction``: the paper's lambda
    times the sum of all soft counts, where each weight counts as often as it is multiplied, in units of the encoder's
    own multiplications.

    Args:
        encoder: An encoder with thresholds in some of its layers.
        layers: The layers of its graph.
        target: Fraction of the multiplications to keep, or None.
        strength: Weight of the penalty.
    """

    def __init__(self, encoder: nn.Module, layers: Sequence[Layer], target: float | None, strength: float) -> None:
        super().__init__()
        self.target, self.strength, self.layers = target, strength, tuple(layers)
        # A plain dict keeps the layers from being registered a second time.
        self.linears: dict[str, Linear] = {layer.name: _linear(encoder, layer.name) for layer in layers}
        self.whole = float(self.multiplications({}, {}))

    def multiplications(self, outputs: Mapping[str, Any], density: Mapping[str, Any]) -> Any:
        """See :func:`geo3d.compress.shrink.multiplications`."""
        return multiplications(self.layers, self.linears, outputs, density)

    def thresholds(self) -> Thresholds:
        """The thresholds of the layers, with the weights they act on."""
        masked = {name: (linear.mask, linear.weight) for name, linear in self.linears.items()}
        return {name: (mask, weight) for name, (mask, weight) in masked.items() if isinstance(mask, Threshold)}

    def fraction(self) -> Tensor:
        """() soft fraction of multiplications kept, with gradients to the thresholds."""
        outputs, density = {}, {}
        for name, (mask, weight) in self.thresholds().items():
            left = mask.l0(weight)
            if mask.rows is None:
                density[name] = left / weight.numel()
            else:
                outputs[name] = left / weight.shape[1]
        return torch.as_tensor(self.multiplications(outputs, density) / self.whole)

    def penalty(self) -> Tensor:
        """() term to add to the loss."""
        fraction = self.fraction()
        return self.strength * (fraction if self.target is None else (fraction / self.target - 1) ** 2)


@checked
def prune(
    encoder: nn.Module,
    kept: Annotated[float, Range(0, 1, above=True)] | None = 0.5,
    *,
    group: Annotated[str, OneOf("channel", "block", "weight")] = "channel",
    block: Literal[8, 16] = 8,
    criterion: Annotated[str, OneOf("weight", "scaled")] | None = None,
    strength: Annotated[float, Range(0, 1e6)] = 1.0,
    temperature: Annotated[float, Range(0, 1e6, above=True)] | None = None,
    layers: Sequence[str] | None = None,
    shrink_output: bool = False,
    one_shot: bool = False,
) -> nn.Module:
    """A copy of the encoder with learned thresholds (LTP, arXiv 2003.00075) in its layers, to be trained and finalized.

    In training ``compress.penalty`` pulls the fraction of multiplications towards ``kept``. :func:`finalize` then
    multiplies the thresholds by one common factor so that at most ``kept`` is left, makes them hard, and removes
    channels physically. Layers of 16 channels and more keep a multiple of 8 channels.

    Args:
        encoder: An encoder with a ``layer_graph``; to remove channels or blocks it also needs ``with_channels``.
        kept: Fraction of the multiplications to keep, over all layers. With None the penalty is the paper's, and the
            learned thresholds alone decide what is removed.
        group: What is removed together: a ``"channel"``, a ``"block"`` of successive output channels, or a single
            ``"weight"``, which saves bytes but no time.
        block: Channels in a block, 8 or 16.
        criterion: What is compared with the threshold. ``"weight"``: the mean square of a row of the weight, as in the
            paper. ``"scaled"``: the mean square of the row times the norm's ``|gamma| / sigma``. A BatchNorm cancels
            the size of a row, which alone therefore says nothing; the scaled row is what acts in evaluation.
            The scale is taken once, when the encoder is pruned; it is 1 for a layer whose norm has no statistics yet.
            By default ``"scaled"`` for channels and blocks, ``"weight"`` for single weights.
        strength: Weight of the penalty.
        temperature: T0; see :class:`geo3d.nn.threshold.Threshold`.
        layers: Names of the layers to prune; by default all that can be pruned. Layers that structured layers read
            cannot lose channels, see :func:`geo3d.compress.shrink.prunable`.
        shrink_output: Whether the layer that makes the cloud features may lose channels too; heads made for the whole
            encoder then no longer fit. If not, that layer, the largest, loses only inputs, and the layers before it get
            very narrow when only a tenth is to be kept.
        one_shot: Prune now, without training, by the size of the weights relative to their layer's mean.

    Raises:
        ConfigError: If an option does not fit, nothing can be pruned, an earlier step is not finalized, or ``kept``
            cannot be reached.
    """
    criterion = criterion or ("weight" if group == "weight" else "scaled")
    if one_shot and kept is None:
        raise ConfigError("prune.one_shot needs kept, the fraction to be left")
    other = copied(encoder, "prune")
    if any(done["step"] == "structure" and done["regularize"] for done in records(encoder)):
        raise ConfigError("prune: structure only regularises so far; call compress.finalize before prune")
    names = _chosen(other, group, _rows(group, block), layers, shrink_output)
    record: dict[str, Any] = {
        "step": "prune", "group": group, "block": block, "kept": kept, "criterion": criterion, "strength": strength,
        "temperature": temperature, "layers": names, "finalized": False,
    }  # fmt: skip
    other = restore(other, record)
    _check_reachable(other.sparsity)  # type: ignore[arg-type]
    norms = {layer.name: layer.norm for layer in _layers(other)}
    for name in names:
        linear = _linear(other, name)
        norm = other.get_submodule(norms[name]) if norms[name] and criterion == "scaled" else None
        if isinstance(norm, BatchNorm) and norm.running_var is not None and norm.num_batches_tracked:
            linear.mask.scale.copy_(norm.folded()[0].detach().abs())
        linear.mask.start(linear.weight.detach())
        if one_shot:
            linear.mask.log_tau.data.copy_(linear.mask.squares(linear.weight.detach()).mean().log())
    other.compression = [*records(encoder), record]  # type: ignore[assignment]
    return finalize(other) if one_shot else other


def _linear(encoder: nn.Module, name: str) -> Linear:
    linear = encoder.get_submodule(name)
    assert isinstance(linear, Linear)
    return linear


def _layers(encoder: nn.Module) -> list[Layer]:
    return layers_of(graph_of(encoder, "prune"))


def _chosen(encoder: nn.Module, group: str, rows: int | None, wanted: Sequence[str] | None, output: bool) -> list[str]:
    """The names of the layers to prune."""
    if rows is None:
        possible = [layer.name for layer in _layers(encoder)]
    else:
        layers = _layers(encoder)
        _check_widths(encoder, layers)
        free = prunable(encoder, layers, output)
        possible = [name for name in free if len(_linear(encoder, name).weight) > rows]
    if not possible:
        raise ConfigError(
            f"prune: no layer of this encoder can lose a {group}: they are too narrow, or structured layers read them; "
            "structure fewer layers, or use group='weight'"
        )
    for name in wanted or ():
        if name not in possible:
            raise ConfigError(f"prune.layers: {name!r} cannot lose a {group}; layers that can: {', '.join(possible)}")
    return [name for name in possible if wanted is None or name in wanted]


def _check_widths(encoder: nn.Module, layers: Sequence[Layer]) -> None:
    """Check that the encoder can be made with other widths, by making such encoders.

    Raises:
        ConfigError: If it has no ``with_channels``, or that refuses its present widths or ignores another one.
    """
    if not hasattr(encoder, "with_channels"):
        raise ConfigError(
            f"prune: a {type(encoder).__name__} cannot be made with other numbers of channels (it has no "
            "with_channels); use group='weight'"
        )
    with torch.device("meta"):
        sizes = {layer.name: len(_linear(encoder, layer.name).weight) for layer in layers}
        encoder.with_channels(sizes)  # type: ignore[operator]
        for name, size in sizes.items():
            try:
                other = encoder.with_channels(sizes | {name: size + 1})  # type: ignore[operator]
            except ConfigError:
                continue  # its class refuses this width
            if (made := len(_linear(other, name).weight)) != size + 1:
                raise ConfigError(
                    f"{type(encoder).__name__}.with_channels: asked for {size + 1} channels of {name}, it made {made}; "
                    "use every entry of sizes"
                )


def _rows(group: str, block: int) -> int | None:
    return {"weight": None, "channel": 1, "block": block}[group]


def restore(encoder: nn.Module, record: Mapping[str, Any]) -> nn.Module:
    """The encoder, changed in place, with the modules that the record describes; their values are still to be loaded.

    An encoder that was finalized with fewer channels has no such modules; one that was finalized with single weights at
    zero keeps its frozen masks.
    """
    if record["finalized"] and record["group"] != "weight":
        return encoder
    for name in record["layers"]:
        linear = _linear(encoder, name)
        shape = (linear.weight.shape[0], linear.weight.shape[1])
        linear.mask = Threshold(shape, _rows(record["group"], record["block"]), record["temperature"])
        linear.mask.to(linear.weight)
        linear.mask.log_tau.requires_grad_(not record["finalized"])
    if not record["finalized"]:
        encoder.sparsity = Sparsity(encoder, _layers(encoder), record["kept"], record["strength"])
    return encoder


@torch.no_grad()
def finalize(encoder: nn.Module) -> nn.Module:
    """A copy with hard thresholds: channels are removed, or weights stay at zero; the encoder itself if not pruned.

    The thresholds are first multiplied by one common factor, the smallest that leaves at most the target fraction of
    multiplications. A removed channel's running mean is set to the layer's bias (0 without one), so its output is beta.
    Recalibrate the statistics of later norms afterwards; a short fine-tuning then recovers most of what was lost.
    """
    history = records(encoder)
    record = next((r for r in history if r["step"] == "prune" and not r["finalized"]), None)
    if record is None:
        return encoder
    other: Any = copy.deepcopy(encoder)
    thresholds = other.sparsity.thresholds()
    kept, fraction = hardened(other.sparsity)
    del other.sparsity
    rows = {}
    for layer in _layers(other):
        if layer.name not in kept:
            continue
        (mask, weight), linear = thresholds[layer.name], _linear(other, layer.name)
        mask.freeze(kept[layer.name])
        weight.copy_(mask(weight))
        if mask.rows is not None:
            rows[layer.name] = mask.per_row(mask.kept, len(weight))
            gone, norm = ~rows[layer.name], other.get_submodule(layer.norm)
            if norm.running_mean is not None:
                norm.running_mean[gone] = 0.0 if linear.bias is None else linear.bias[gone]
    other = shrink(other, rows) if rows else other
    outcome: dict[str, Any] = {"finalized": True, "fraction": round(fraction, 6)}
    for last in (rows[layer.name] for layer in _layers(encoder) if layer.output and layer.name in rows):
        outcome |= {"outputs": last.nonzero()[:, 0].tolist(), "outputs_of": len(last)}
    other.compression = [{**r, **outcome} if r is record else r for r in history]
    return other


def hardened(budget: Sparsity) -> tuple[dict[str, Tensor], float]:
    """Bool gates of each layer, True where a gate stays open, and the fraction of multiplications that is left."""
    thresholds = budget.thresholds()
    sizes = {name: mask.squares(weight).flatten() for name, (mask, weight) in thresholds.items()}
    ordered = {name: z.sort().values for name, z in sizes.items()}
    counts = _counts(thresholds, ordered, 0.0)
    if budget.target is not None:
        least, most = -RANGE, RANGE
        for _ in range(60):
            middle = (least + most) / 2
            enough = _share(budget, _counts(thresholds, ordered, middle)) <= budget.target
            least, most = (least, middle) if enough else (middle, most)
        counts = _counts(thresholds, ordered, most)
    kept = {}
    for name, z in sizes.items():
        largest = z.topk(counts[name]).indices
        kept[name] = (
            torch.zeros_like(z, dtype=torch.bool).index_fill(0, largest, True).view_as(thresholds[name][0].kept)
        )
    return kept, _share(budget, counts)


def _counts(thresholds: Thresholds, ordered: Mapping[str, Tensor], log_factor: float) -> dict[str, int]:
    """How many gates of each layer stay open when the thresholds are multiplied by ``exp(log_factor)``."""
    counts = {}
    for name, (mask, weight) in thresholds.items():
        z = ordered[name]
        tau = z.new_tensor(float(mask.tau) * math.exp(log_factor))
        count = max(1, len(z) - int(torch.searchsorted(z, tau, right=True)))
        counts[name] = _whole(mask, len(weight), count)
    return counts


def _whole(mask: Threshold, out_channels: int, count: int) -> int:
    """How many gates to keep open: ``count``, rounded up to a multiple of ``LANES`` for channels of wide layers."""
    in_lanes = mask.rows == 1 and out_channels >= 2 * LANES
    return min(out_channels, -(-count // LANES) * LANES) if in_lanes else count


def _share(budget: Sparsity, found: Mapping[str, int]) -> float:
    """The fraction of multiplications that is left with ``found[name]`` gates open in each layer."""
    outputs, density = {}, {}
    for name, (mask, weight) in budget.thresholds().items():
        if mask.rows is None:
            density[name] = found[name] / weight.numel()
        else:
            outputs[name] = min(len(weight), found[name] * mask.rows)
    return float(budget.multiplications(outputs, density)) / budget.whole


def _check_reachable(budget: Sparsity) -> None:
    thresholds = budget.thresholds()
    least = _share(budget, {name: _whole(mask, len(weight), 1) for name, (mask, weight) in thresholds.items()})
    if budget.target is not None and least > budget.target:
        raise ConfigError(
            f"prune.kept={budget.target} cannot be reached: with the fewest channels in {', '.join(thresholds)} there "
            f"remains {least:.4f} of the multiplications; raise kept, or prune more layers or smaller groups"
        )
