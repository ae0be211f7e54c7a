"""A graph compared with the ``forward`` that it describes."""

from collections.abc import Sequence
from copy import deepcopy
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d.cloud import layout_of, make_batch, named_columns
from geo3d.errors import ConfigError
from geo3d.nn.evaluate import Value, evaluate
from geo3d.nn.graph import Op
from geo3d.seeds import generator

CLOUDS, POINTS = 2, 48
TOLERANCE = 1e-3
"""Of the largest value: far above rounding, far below what a missing operation changes."""
FLIPPED = 0.05
"""Fraction of values that may differ: rounding may swap two neighbours that are equally far."""

_verified: WeakSet[nn.Module] = WeakSet()


def verify(module: nn.Module, ops: Sequence[Op]) -> None:
    """Check that the operations of an encoder compute what its ``forward`` computes.

    Both run once per module, on two small clouds and a copy with other weights: the norms of a new network are all
    alike, so they could be swapped unnoticed. Compressed encoders are not compared, because their parts
    may not be initialised; they were when they were compressed. geo3d's own classes are compared in its tests.

    Raises:
        ConfigError: If they differ, or the operations cannot be computed.
    """
    own = type(module).__module__.split(".")[0] == "geo3d"
    if own or module in _verified or getattr(module, "compression", None) or not _has_values(module):
        return
    inputs = {op.path: op.number for op in ops if op.kind == "input"}
    if not inputs.keys() <= {"pos", "x"}:
        return  # a head or a decoder
    copy = _perturbed(module)
    batch, x = _clouds(inputs.get("x", 0), next(copy.parameters()), getattr(module, "inputs", ()) or ("x",))
    with torch.no_grad(), torch.autocast(batch.pos.device.type, enabled=False):
        expected = copy(batch)
        values = {name: Value(x if name == "x" else batch.pos, layout_of(batch)) for name in inputs}
        try:
            found = evaluate(copy, ops, values, ("point", "cloud"))
        except (IndexError, RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise ConfigError(f"the operations cannot be computed: {' '.join(str(error).split())[:200]}") from error
    for name in ("point", "cloud"):
        _compare(name, found[name].x, getattr(expected, name))
    _verified.add(module)


def _has_values(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.is_meta for parameter in parameters)


def _perturbed(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode with other weights."""
    copy, draw = deepcopy(module).eval(), generator("perturbed weights")

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=draw).to(like)

    with torch.no_grad():
        for parameter in copy.parameters():
            if parameter.is_floating_point():
                parameter.mul_(1 + 0.3 * normal(parameter)).add_(0.05 * normal(parameter))
    return copy


def _clouds(channels: int, like: Tensor, names: Sequence[str]) -> tuple[Batch, Tensor]:
    """Two small clouds with these fields, and the columns of the fields side by side."""
    draw = generator("two small clouds")
    pos = torch.rand(CLOUDS * POINTS, 3, generator=draw) * 2 - 1
    x = torch.rand(CLOUDS * POINTS, channels, generator=draw)
    extra = named_columns(x, names) if channels else {}
    return make_batch(pos, num_points=POINTS, **extra).to(like.device), x.to(like.device)


def _compare(name: str, found: Tensor, expected: Tensor) -> None:
    if found.shape != expected.shape:
        raise ConfigError(f"{name}: it gives {tuple(found.shape)}, forward gives {tuple(expected.shape)}")
    scale = expected.abs().max()
    far = (found - expected).abs() > TOLERANCE * scale
    if not bool(expected.isfinite().all()) or float(far.float().mean()) > FLIPPED:
        error = float((found - expected).abs().max() / scale)
        raise ConfigError(
            f"{name}: its operations and forward give different values, by {error:.2g} of the largest; describe what "
            "forward computes"
        )
