"""A network's description of itself, checked against its modules before anything relies on it."""

from collections.abc import Sequence
from typing import get_args

from torch import nn

from geo3d.errors import ConfigError
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.graph import WEIGHTED, Kind, Op
from geo3d.nn.linear import Linear
from geo3d.nn.norm import BatchNorm
from geo3d.nn.verify import verify

SOURCES = {
    "input": (0, 0), "dense": (1, 1), "edge": (2, 2), "pairs": (2, 2), "group": (2, None), "neighbors": (1, 1),
    "columns": (1, 1), "farthest": (1, 1),
    "matmul": (2, 2), "concat": (1, None), "max": (1, 1), "mean": (1, 1), "expand": (2, 2), "interpolate": (3, 3),
}  # fmt: skip
"""Of each kind the smallest and the largest number of sources; None: any."""


def graph_of(module: nn.Module, purpose: str) -> tuple[Op, ...]:
    """The network's description of itself.

    Args:
        module: An encoder, a head or a decoder.
        purpose: What the description is needed for; it begins the error message.

    Raises:
        ConfigError: If the class has no ``layer_graph``, or has that of a base class whose ``forward`` it replaces, or
            if the graph does not fit the modules (:func:`check_graph`) or ``forward``
            (:func:`~geo3d.nn.verify.verify`).
    """
    name = type(module).__name__
    if not hasattr(module, "layer_graph"):
        raise ConfigError(
            f"{purpose}: {name} does not describe its layers; give the class a method layer_graph, see geo3d.nn.graph"
        )
    owner, computes = _definer(module, "layer_graph"), _definer(module, "forward")
    if owner is not computes and issubclass(computes, owner):
        raise ConfigError(f"{purpose}: {name} has its own forward, but {owner.__name__}'s layer_graph; give it its own")
    ops = module.layer_graph()  # type: ignore[operator]
    try:
        check_graph(module, ops)
        verify(module, ops)
    except ConfigError as error:
        raise ConfigError(f"{purpose}: {name}.layer_graph: {error}") from None
    return tuple(ops)


def check_graph(module: nn.Module, ops: Sequence[Op]) -> None:
    """Check that operations name what the module has, each once, in the order of the data, and nothing is left out.

    Raises:
        ConfigError: If something is not an :class:`~geo3d.nn.graph.Op`, a kind is unknown, a name occurs twice, a
            source does not come before its reader, a number is out of its range, a layer or norm is not of geo3d's
            classes or occurs twice, an edge convolution has another norm or slope, the results are missing, or a
            parameter or stored buffer belongs to none of the layers.
    """
    if not isinstance(ops, list | tuple) or not all(isinstance(op, Op) for op in ops):
        raise ConfigError(f"expected a tuple of Op, see geo3d.nn.graph; found {ops!r:.60}")
    before: set[str] = set()
    covered: list[str] = []
    for op in ops:
        _check_names(op, before)
        before.add(op.path)
        covered += _check_modules(module, op)
    if not {"point", "cloud"} <= before and not before & {"logits", "rows"}:
        raise ConfigError("expected the values point and cloud of an encoder, logits of a head or rows of a decoder")
    _check_shared(module, covered)
    left = [key for key in module.state_dict() if not key.startswith(tuple(f"{path}." for path in covered))]
    if left:
        raise ConfigError(f"no operation names {left[0]}, which the module has; describe the layer that it belongs to")


def _check_names(op: Op, before: set[str]) -> None:
    if op.kind not in get_args(Kind):
        raise ConfigError(f"{op.path}: there is no kind {op.kind!r}; there are {', '.join(get_args(Kind))}")
    if op.path in before:
        raise ConfigError(f"{op.path}: two operations have this name; each needs its own, with a module of its own")
    for source in op.sources:
        if source not in before:
            raise ConfigError(f"{op.path}: reads {source!r}, but no operation before it has that name")
    least, most = SOURCES[op.kind]
    if len(op.sources) < least or (most is not None and len(op.sources) > most):
        raise ConfigError(f"{op.path}: {op.kind} cannot have {len(op.sources)} sources, {op.sources}")
    if op.slope is not None and not 0 <= op.slope <= 1:
        raise ConfigError(f"{op.path}: the slope of a LeakyReLU must be from 0 to 1; found {op.slope}")
    for name, kinds in (("k", ("neighbors", "pairs", "group")), ("number", ("input", "columns", "farthest"))):
        if op.kind in kinds and getattr(op, name) < 1:
            raise ConfigError(f"{op.path}: {op.kind} needs {name} >= 1")
    if op.kind == "interpolate" and op.k != 3:
        raise ConfigError(f"{op.path}: interpolate is defined between k=3 centers; found k={op.k}")


def _check_modules(module: nn.Module, op: Op) -> list[str]:
    """The paths of the modules that the operation names."""
    if op.kind not in WEIGHTED:
        return []
    _named(module, op.path, Linear)
    if op.norm:
        _named(module, op.norm, BatchNorm)
    if op.kind != "edge":
        return [op.path, *([op.norm] if op.norm else [])]
    owner, _, leaf = op.path.rpartition(".")
    layer = _named(module, owner, EdgeConv)
    if leaf != "linear" or op.norm != f"{owner}.norm" or op.slope != layer.negative_slope:
        raise ConfigError(
            f"{op.path}: expected the edge convolution's own layer, norm and slope, {owner}.linear, {owner}.norm and "
            f"{layer.negative_slope}; found {op.path}, {op.norm or 'no norm'} and {op.slope}"
        )
    return [owner]


def _check_shared(module: nn.Module, covered: Sequence[str]) -> None:
    """Check that no two layers or norms share a parameter: changing one would change the other."""
    owners: dict[int, str] = {}
    for path in covered:
        for parameter in module.get_submodule(path).parameters():
            if owners.setdefault(id(parameter), path) != path:
                raise ConfigError(f"{path}: shares weights with {owners[id(parameter)]}; each layer needs its own")


def _named(module: nn.Module, path: str, kind: type) -> nn.Module:
    try:
        named = module.get_submodule(path)
    except AttributeError:
        raise ConfigError(f"{path}: the module has nothing of that name; expected a {kind.__name__}") from None
    if type(named) is not kind:  # a subclass may compute something else
        raise ConfigError(
            f"{path}: expected a {kind.__module__}.{kind.__name__}; found a "
            f"{type(named).__module__}.{type(named).__name__}"
        )
    return named


def _definer(module: nn.Module, method: str) -> type:
    """The class that defines a method."""
    return next((each for each in type(module).__mro__ if method in vars(each)), object)
