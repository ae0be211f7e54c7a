"""Names of encoders in tables and pictures, made from what they are and not from their folders."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from geo3d.compress import Setting, records
from geo3d.encoders import DGCNN, PointNet, PointNet2

FRACTIONS = {0.25: "quarter", 0.5: "half", 0.75: "three quarters", 2.0: "double"}
KEPT = {0.5: "half pruned", 0.25: "three quarters pruned"}


def label(encoder: nn.Module, card: Mapping[str, Any], setting: Setting | None = None) -> str:
    """The class, what differs from the published width, graph and neighbours, and the steps of compression.

    Args:
        encoder: An encoder from a checkpoint.
        card: The card of the checkpoint, whose recipe has more details than the encoder's records.
        setting: The setting of an adaptive encoder.

    Example:
        >>> label(DGCNN(k=12, channels=(32, 32, 64, 128), embedding=512), {})
        'DGCNN, half width, k = 12, float'
    """
    wrapped = getattr(encoder, "inner", None)
    inner = wrapped if isinstance(wrapped, nn.Module) else encoder
    steps = [_step(record, card.get("recipe") or {}) for record in records(encoder) if record["step"] != "adapt"]
    if setting is None:
        plain = ["float", "trained on"] if "recipe" in card else ["float"]
        return ", ".join([*_architecture(inner), *(steps or plain)])
    inner = encoder.subnet(setting)  # type: ignore[operator]
    return ", ".join([*_architecture(inner), *steps, f"{setting.num_points} points, adaptive"])


def distinct(names: Sequence[str], seeds: Sequence[Any]) -> list[str]:
    """The names, all distinct: equal ones get the seed of their run, or a number if the seeds do not tell them apart.

    Example:
        >>> distinct(["DGCNN, W4A8", "DGCNN, W4A8", "DGCNN, float"], [0, 1, 0])
        ['DGCNN, W4A8, seed 0', 'DGCNN, W4A8, seed 1', 'DGCNN, float']
        >>> distinct(["DGCNN, float", "DGCNN, float"], [0, 0])
        ['DGCNN, float, no. 1', 'DGCNN, float, no. 2']
    """
    often, unique = Counter(names), []
    for i, (name, seed) in enumerate(zip(names, seeds, strict=True)):
        alike = [j for j, other in enumerate(names) if other == name]
        if often[name] > 1:
            apart = len({seeds[j] for j in alike}) == len(alike) and seed is not None
            name += f", seed {seed}" if apart else f", no. {alike.index(i) + 1}"
        unique.append(name)
    return unique


def _architecture(encoder: nn.Module) -> list[str]:
    if isinstance(encoder, PointNet2):
        return [f"PointNet++ {encoder.scales.upper()}", *_width(encoder.width)]
    if isinstance(encoder, PointNet):
        return ["PointNet", *_width(encoder.width)]
    if not isinstance(encoder, DGCNN):
        return [type(encoder).__name__]
    graph = [] if encoder.dynamic else ["one graph"]
    near = [] if encoder.k == 20 else [f"k = {encoder.k}"]
    return ["DGCNN", *_dgcnn_width(encoder), *graph, *near]


def _width(fraction: float) -> list[str]:
    return [] if fraction == 1 else [f"{FRACTIONS.get(fraction, f'{fraction:g} of the')} width"]


def _dgcnn_width(encoder: DGCNN) -> list[str]:
    """The width, or the channels if no width fits. After pruning, the width before it: the steps tell the rest."""
    pruned = next((record for record in records(encoder) if record["step"] == "prune"), None)
    if pruned is not None and pruned.get("group") != "weight":
        return _width(pruned.get("outputs_of", encoder.embedding) / 1024)
    fractions = {size / full for size, full in zip(encoder.channels, (64, 64, 128, 256), strict=False)}
    fractions.add(encoder.embedding / 1024)
    depth = len(encoder.channels)
    if len(fractions) == 1 and depth <= 4:
        return [*_width(fractions.pop()), *([] if depth == 4 else [f"{depth} layers"])]
    return [f"channels {'-'.join(map(str, encoder.channels))}, embedding {encoder.embedding}"]


def _step(record: Mapping[str, Any], recipe: Mapping[str, Any]) -> str:
    """One step of compression in words."""
    options = recipe.get(record["step"]) or {}
    if record["step"] == "structure":
        reduction = options.get("reduction")
        return ("SVD" if record["low_rank"] else "structured") + (f" {reduction:g}x" if reduction else "")
    if record["step"] == "prune":
        kept = record["kept"] or record.get("fraction")
        what = " of the weights" if record["group"] == "weight" else ""
        words = KEPT.get(kept) if kept and not what else None
        return words or (f"{100 * kept:.3g} %{what} kept" if kept else "pruned")
    if record["step"] == "quantize":
        pairs = [tuple(pair) for pair in record["bits"].values()]
        inner = [pair for pair in pairs if pair[1]] or pairs  # layers that read coordinates have their own bits
        weights, inputs = Counter(reversed(inner)).most_common(1)[0][0]  # so may the first ones after
        return f"W{weights}" + (f"A{inputs}" if inputs else "")
    return str(record["step"])
