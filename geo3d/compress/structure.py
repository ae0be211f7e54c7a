"""Structured encoders: layers that sum windows of channels and then multiply by a smaller matrix (arXiv 2008.02454)."""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geo3d.checks import Range, Size, checked
from geo3d.compress.channel_order import channel_order
from geo3d.compress.record import copied, records
from geo3d.errors import ConfigError
from geo3d.nn.describe import graph_of
from geo3d.nn.edge_conv import EdgeConv
from geo3d.nn.edge_mlp import EdgeMLP
from geo3d.nn.linear import Linear
from geo3d.nn.structured import LowRank, SlidingSum, Structural

MULTIPLE = 8
"""Ranks are rounded up to a multiple of this, the width of a vector register."""

RIDGE = 1e-6
"""This fraction of the mean diagonal is added to the diagonal of the second moments: some channels may always be 0."""


class LayerSite(NamedTuple):
    """A linear layer of an encoder."""

    path: str
    layer: Linear
    parts: int
    """How many equal parts of the weight read the same channels: 2 for an edge convolution."""

    @property
    def channels(self) -> int:
        """P: input channels of a dense layer, without its columns of coordinates."""
        return (self.layer.weight.shape[1] - self.layer.skip) // self.parts

    @property
    def columns(self) -> Tensor:
        """(parts * out, P) float64 weight of a dense layer on the CPU; each part of a row is a row by itself."""
        weight = self.layer.masked()[:, self.layer.skip :]
        return weight.detach().cpu().double().unflatten(1, (self.parts, -1)).flatten(0, 1)

    def put(self, pool: nn.Module, alpha: Tensor) -> None:
        """Set the layer's pooling, and ``alpha`` (parts * out, R) as its weight after the pooling."""
        dense = self.layer.weight
        alpha = alpha.reshape(len(dense), -1).to(dense)
        self.layer.pool = pool.to(dense)
        weight = torch.cat([dense.detach()[:, : self.layer.skip], alpha], 1)
        self.layer.weight = nn.Parameter(weight, requires_grad=dense.requires_grad)


def layer_sites(encoder: nn.Module) -> Iterator[LayerSite]:
    """All linear layers of an encoder, in the order of its modules."""
    doubled = {id(module.linear) for module in encoder.modules() if isinstance(module, EdgeConv)}
    doubled |= {id(module.mlp.first) for module in encoder.modules() if isinstance(module, EdgeMLP)}
    for path, module in encoder.named_modules():
        if isinstance(module, Linear):
            yield LayerSite(path, module, 2 if id(module) in doubled else 1)


@checked
def structure(
    encoder: nn.Module,
    reduction: Annotated[float, Range(1, 1000)] = 2.0,
    *,
    ranks: Mapping[str, Size] | None = None,
    min_channels: Annotated[int, Range(0, 1_000_000)] = 64,
    permute: bool = True,
    regularize: Annotated[float, Range(0, 1e6)] = 0.0,
    low_rank: bool = False,
    fresh: bool = False,
    moments: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """A copy of the encoder whose wide layers take about ``reduction`` times fewer multiplications.

    Each weight ``W (out, P)`` is replaced by sums over R windows of channels and a weight ``alpha (out, R)`` after
    them. Least squares fits alpha to W, or with ``moments`` to the layer's output. Both halves of an edge convolution
    share the sums; columns of coordinates stay as they are.

    Args:
        encoder: Not changed.
        reduction: R is P / reduction, rounded up to a multiple of 8; a layer where that is not below P stays dense.
        ranks: R for single layers by path, instead of the above; R = P leaves a layer dense.
        min_channels: Layers with fewer input channels stay dense unless ``ranks`` names them.
        permute: Choose the order of the channels, see :mod:`geo3d.compress.channel_order`.
        regularize: If not zero, the layers stay dense for now. :func:`geo3d.compress.penalty` then adds their distance
            from structured layers, times this, to the loss, and :func:`finalize` decomposes them after training.
        low_rank: For comparison: replace the sums by a learned matrix with few outputs (from the singular values). Its
            rank is the largest that takes no more multiplications than the structured layer.
        fresh: The weights are random and will be trained in this form from the start. They are rescaled so that the
            output variance matches the dense layer for i.i.d. inputs; least squares shrinks it. Channels keep their
            order.
        moments: Second moments of the inputs of every layer that is rewritten, from :func:`input_moments`.

    Raises:
        ConfigError: If the encoder has been compressed before, does not describe itself, or an option does not fit.
    """
    other = copied(encoder, "structure")
    graph_of(encoder, "structure")
    if (regularize and low_rank) or (fresh and moments is not None):
        raise ConfigError(
            "structure takes neither regularize with low_rank nor moments with fresh; "
            f"found regularize={regularize}, low_rank={low_rank}, fresh={fresh}"
        )
    permute = permute and not fresh and not low_rank
    chosen = _chosen(other, reduction, ranks or {}, min_channels)
    rank_of: dict[str, int] = {}
    for place, rank in chosen:
        c = None if moments is None else _moments(place, moments)
        pool: nn.Module
        if low_rank:
            rank = equal_rank(place, rank)
            pool, alpha = _narrowed(place, rank, c)
        else:
            order = _order(place, rank, c) if permute else None
            if regularize:
                _regularize(place, rank, regularize, order)
            pool, alpha = _summed(place, rank, order, c)
        rank_of[place.path] = rank
        if not regularize:
            place.put(pool, _as_large(place, pool, alpha) if fresh else alpha)
    record = {"step": "structure", "ranks": rank_of, "low_rank": low_rank, "permute": permute, "regularize": regularize}
    other.compression = [*records(other), record]  # type: ignore[assignment]
    return other


def restore(encoder: nn.Module, record: Mapping[str, Any]) -> nn.Module:
    """The encoder, changed in place, with the modules that the record describes; values are still to be loaded."""
    known = {place.path: place for place in layer_sites(encoder)}
    for path, rank in record["ranks"].items():
        place = known[path]
        if record["regularize"]:
            _regularize(place, rank, record["regularize"], torch.arange(place.channels) if record["permute"] else None)
            continue
        pool = (
            LowRank(place.channels, rank)
            if record["low_rank"]
            else SlidingSum(place.channels, rank, permuted=record["permute"])
        )
        place.put(pool, torch.zeros(place.parts * len(place.layer.weight), rank))
    return encoder


def finalize(encoder: nn.Module) -> nn.Module:
    """A copy of the encoder with its regularised layers decomposed; the encoder itself if it has none.

    Raises:
        ConfigError: If one of these layers is already quantised, as its steps fit the dense weight only.
    """
    if not any(isinstance(module, Structural) for module in encoder.modules()):
        return encoder
    other = deepcopy(encoder)
    for place in layer_sites(other):
        regularizer = getattr(place.layer, "structural", None)
        if regularizer is None:
            continue
        if place.layer.quantizer is not None or place.layer.input_quantizer is not None:
            raise ConfigError(f"{place.path} is quantised but not yet decomposed; finalize structure before quantize")
        place.put(*_summed(place, regularizer.rank, regularizer.order, None))
        del place.layer.structural
    done = [{**r, "regularize": 0.0} if r["step"] == "structure" else r for r in records(other)]
    other.compression = done  # type: ignore[assignment]
    return other


class _Recorder(nn.Module):
    """Returns its input unchanged, and adds up the second moments of the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.total: Tensor | float = 0.0
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        """(M, P) the input."""
        self.total = self.total + (x.double().t() @ x.double()).cpu()
        self.count += len(x)
        return x


@torch.no_grad()
def input_moments(encoder: nn.Module, batches: Iterable[Data]) -> dict[str, Tensor]:
    """(P, P) float64 mean of ``x x^T`` over all inputs of each linear layer, coordinates left out.

    Args:
        encoder: A dense encoder; a copy is run in evaluation mode.
        batches: Clouds; they should have many more points than the widest layer has channels.

    Raises:
        ConfigError: If there is no batch.
    """
    other = deepcopy(encoder).eval()
    recorders: dict[str, Any] = {}
    for place in layer_sites(other):
        if place.channels:
            place.layer.pool = recorders[place.path] = _Recorder()
    for batch in batches:
        other(batch)
    if any(not recorder.count for recorder in recorders.values()):
        raise ConfigError("input_moments needs at least one batch of clouds; found none")
    return {path: recorder.total / recorder.count for path, recorder in recorders.items()}


def equal_rank(place: LayerSite, rank: int) -> int:
    """The largest rank, at least 1, with which a low-rank layer costs no more than a structured layer of ``rank``."""
    rows = place.parts * len(place.layer.weight)
    return max(1, rows * rank // (rows + place.channels))


def _chosen(
    encoder: nn.Module, reduction: float, ranks: Mapping[str, int], min_channels: int
) -> list[tuple[LayerSite, int]]:
    known = {place.path: place for place in layer_sites(encoder)}
    for path, rank in ranks.items():
        if path not in known:
            raise ConfigError(f"ranks: the encoder has no linear layer {path!r}; it has {', '.join(known)}")
        if not 1 <= rank <= known[path].channels:
            raise ConfigError(f"ranks: {path} takes a rank from 1 to {known[path].channels}; found {rank}")
    chosen = []
    for place in known.values():
        rank = -(-round(place.channels / reduction) // MULTIPLE) * MULTIPLE
        rank = ranks.get(place.path, rank if place.channels >= min_channels else place.channels)
        if rank < place.channels:
            chosen.append((place, rank))
    if not chosen:
        raise ConfigError(
            f"structure finds no layer to rewrite: reduction={reduction} with min_channels={min_channels} leaves all "
            "dense; lower structure.min_channels or raise structure.reduction in the recipe"
        )
    return chosen


def _moments(place: LayerSite, moments: Mapping[str, Tensor]) -> Tensor:
    """(P, P) float64 second moments of the layer's inputs, made positive definite."""
    stored, size = moments.get(place.path), place.channels
    if stored is None or stored.shape != (size, size):
        shape = None if stored is None else tuple(stored.shape)
        raise ConfigError(
            f"moments: {place.path} needs a {size} x {size} matrix; found {shape}: pass those of input_moments"
        )
    c = stored.cpu().double()
    return c + torch.eye(size, dtype=c.dtype) * c.diagonal().mean().clamp_min(1e-300) * RIDGE


def _order(place: LayerSite, rank: int, c: Tensor | None) -> Tensor:
    searched = channel_order(place.columns, rank, None if c is None else torch.linalg.inv(c))
    natural = torch.arange(place.channels)
    return (
        searched
        if c is None
        else min(searched, natural, key=lambda order: _error(place, *_summed(place, rank, order, c), c))
    )


def _error(place: LayerSite, pool: Any, alpha: Tensor, c: Tensor) -> float:
    missing = place.columns - alpha @ pool.basis().t()
    return float((missing @ c * missing).sum())


def _regularize(place: LayerSite, rank: int, strength: float, order: Tensor | None) -> None:
    module = Structural(place.layer, rank, place.parts, strength, permuted=order is not None)
    if order is not None and module.order is not None:
        module.order.copy_(order)
    place.layer.structural = module.to(place.layer.weight.device)


def _summed(place: LayerSite, rank: int, order: Tensor | None, c: Tensor | None) -> tuple[SlidingSum, Tensor]:
    """The sums over windows, and the best alpha (parts * out, R): ``W (B^+)^T``, or ``W C B (B^T C B)^-1``.

    B is the basis of the sums; the second form, with the second moments C, minimises the error of the outputs.
    """
    pool = SlidingSum(place.channels, rank, permuted=order is not None)
    if order is not None and pool.order is not None:
        pool.order.copy_(order)
    basis = pool.basis()
    if c is None:
        return pool, place.columns @ torch.linalg.pinv(basis).t()
    kept = basis.t() @ c
    return pool, torch.linalg.solve(kept @ basis, kept @ place.columns.t()).t()


def _narrowed(place: LayerSite, rank: int, c: Tensor | None) -> tuple[LowRank, Tensor]:
    """The pool and the weight of the best low-rank layer, from the singular values of W, or with C of ``W C^(1/2)``."""
    factor = None if c is None else torch.linalg.cholesky(c)
    u, s, vh = torch.linalg.svd(place.columns if factor is None else place.columns @ factor, full_matrices=False)
    root, v = s[:rank].sqrt(), vh[:rank]
    if factor is not None:
        v = torch.linalg.solve_triangular(factor.t(), v.t(), upper=True).t()
    pool = LowRank(place.channels, rank).to(place.layer.weight.dtype)
    with torch.no_grad():
        pool.weight.copy_(root[:, None] * v)
    return pool, u[:, :rank] * root


def _as_large(place: LayerSite, pool: Any, alpha: Tensor) -> Tensor:
    """(parts * out, R) alpha, each part rescaled so that its dense equivalent has the norm of the dense weight."""
    dense, alpha = place.columns.unflatten(0, (-1, place.parts)), alpha.unflatten(0, (-1, place.parts))
    size = torch.linalg.vector_norm(alpha @ pool.basis().cpu().t(), dim=(0, 2), keepdim=True)
    return (alpha * (torch.linalg.vector_norm(dense, dim=(0, 2), keepdim=True) / size)).flatten(0, 1)
