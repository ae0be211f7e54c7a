"""Structured convolutions (arXiv 2008.02454) for linear layers: sums over windows of channels, then a small matrix.

A layer has P input channels. A matrix ``W (out, P)`` is structured with rank R if ``W = alpha A^T`` for some
``alpha (out, R)``. The composite matrix ``A (P, R)`` has ones on a band: column r covers the window of
``L = P - R + 1`` channels that starts at channel r. Then ``W x = alpha (A^T x)``, where ``A^T x`` are the R sums over
windows, which take additions only.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geo3d.errors import ConfigError
from geo3d.nn.linear import Linear
from geo3d.ops.dense import matrix
from geo3d.ops.dense.sliding import sliding_sum
from geo3d.ops.native import runs


def composite(channels: int, rank: int) -> Tensor:
    """(P, R) float64 ``A``: column r is one on the channels r, ..., r + P - R and zero elsewhere. A has full rank.

    Raises:
        ConfigError: If the rank is not within 1 to ``channels``.

    Example:
        >>> composite(3, 2).tolist()
        [[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
    """
    if not 1 <= rank <= channels:
        raise ConfigError(f"rank must be from 1 to the number of channels, {channels}; found {rank}")
    offset = torch.arange(channels)[:, None] - torch.arange(rank)
    return ((offset >= 0) & (offset <= channels - rank)).double()


def _inverse(order: Tensor) -> Tensor:
    return torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=order.device))


class SlidingSum(nn.Module):
    """(M, rank) sums over windows of channels: the ``pool`` of a structured layer.

    Args:
        in_channels: P.
        rank: R, the number of windows.
        scaled: Divide each sum by the square root of its number of terms, so that the sums are about as large as the
            inputs; otherwise the sums and the weights differ in size by that factor, and the layer trains badly.
        permuted: Sum the channels in the order of a buffer ``order`` (P,), which is stored with the weights and at
            first keeps the channels as they are. If false, ``order`` is None.

    Raises:
        ConfigError: If the rank is not within 1 to ``in_channels``.
    """

    order: Tensor | None

    def __init__(self, in_channels: int, rank: int, scaled: bool = True, permuted: bool = True) -> None:
        super().__init__()
        if not 1 <= rank <= in_channels:
            raise ConfigError(f"rank must be from 1 to the number of channels, {in_channels}; found {rank}")
        self.in_channels, self.rank = in_channels, rank
        self.scale = (in_channels - rank + 1) ** -0.5 if scaled else 1.0
        self.register_buffer("order", torch.arange(in_channels) if permuted else None)

    @property
    def multiplies_per_row(self) -> int:
        """Multiplications per row: 0, as the scale can be folded into the matrix that follows."""
        return 0

    @property
    def adds_per_row(self) -> int:
        """Additions per row: a running sum, into which each channel enters once and which it leaves once."""
        return self.in_channels + self.rank

    def basis(self) -> Tensor:
        """(P, R) float64 ``B`` with ``forward(x) = x B``; the dense equivalent of a weight alpha is ``alpha B^T``."""
        band = composite(self.in_channels, self.rank) * self.scale
        return band if self.order is None else band.to(self.order.device)[_inverse(self.order)]

    def expanded(self, alpha: Tensor) -> Tensor:
        """(..., P) the dense equivalent ``alpha B^T`` of a weight (..., R), differentiable, by additions only."""
        rows = alpha.reshape(-1, self.rank)
        return torch.ops.geo3d.sliding_spread(rows, self.in_channels, self.order, self.scale).view(
            *alpha.shape[:-1], -1
        )

    def forward(self, x: Tensor) -> Tensor:
        """(M, rank) from (M, in_channels)."""
        return sliding_sum(x, self.rank, self.order, self.scale)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.in_channels}, {self.rank}"


class LowRank(nn.Module):
    """(M, rank) from (M, in_channels) by a learned matrix: the low-rank alternative to :class:`SlidingSum`.

    Args:
        in_channels: P.
        rank: Number of output channels.
    """

    def __init__(self, in_channels: int, rank: int) -> None:
        super().__init__()
        self.in_channels, self.rank = in_channels, rank
        self.weight = nn.Parameter(torch.zeros(rank, in_channels))

    @property
    def multiplies_per_row(self) -> int:
        """Multiplications per row, of the product with the matrix."""
        return self.in_channels * self.rank

    @property
    def adds_per_row(self) -> int:
        """Additions per row apart from those of the product: 0."""
        return 0

    def basis(self) -> Tensor:
        """(P, R) float64 ``B`` with ``forward(x) = x B``."""
        return self.weight.detach().double().t()

    def expanded(self, alpha: Tensor) -> Tensor:
        """(..., P) the dense equivalent ``alpha B^T`` of a weight (..., R), differentiable."""
        return alpha @ self.weight

    def forward(self, x: Tensor) -> Tensor:
        """(M, rank) from (M, in_channels)."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or not runs(x, self.weight):
            return F.linear(x, self.weight)
        return matrix.linear(x, self.weight)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.in_channels}, {self.rank}"


class Structural(nn.Module):
    """A regulariser that pulls a layer's dense weight towards a structured one: ``||W (I - A A^+)||_F / ||W||_F``.

    Let ``N (P, P - R)`` be an orthonormal basis of the space orthogonal to the columns of A. Then ``I - A A^+ = N N^T``
    and the term equals ``||W N||_F / ||W||_F``. N is computed once, in float64.

    Args:
        layer: The linear layer; columns of coordinates (its ``skip``) are left out. This module is to become a child
            of the layer, so it does not register the layer as its own child.
        rank: R.
        parts: How many equal parts of the weight multiply the same channels: 2 for an edge convolution.
        strength: Factor of the penalty.
        permuted: As in :class:`SlidingSum`.

    Raises:
        ConfigError: If the rank is not within 1 to P.
    """

    complement: Tensor
    order: Tensor | None

    def __init__(self, layer: Linear, rank: int, parts: int = 1, strength: float = 1.0, permuted: bool = True) -> None:
        super().__init__()
        self.in_channels, self.rank = (layer.weight.shape[1] - layer.skip) // parts, rank
        self.parts, self.strength = parts, strength
        self._layer = (layer,)
        full = torch.linalg.qr(composite(self.in_channels, rank), mode="complete").Q
        self.register_buffer("complement", full[:, rank:].contiguous(), persistent=False)
        self.register_buffer("order", torch.arange(self.in_channels) if permuted else None)

    def distance(self, weight: Tensor) -> Tensor:
        """() distance of ``weight`` (..., P), from 0 (structured) to 1 (orthogonal to the windows); differentiable."""
        ordered = weight if self.order is None else weight[..., self.order]
        outside = torch.linalg.vector_norm(ordered @ self.complement.to(weight.dtype))
        return outside / torch.linalg.vector_norm(weight).clamp_min(torch.finfo(weight.dtype).tiny)

    def penalty(self) -> Tensor:
        """() term that the layer adds to the loss."""
        (layer,) = self._layer
        return self.strength * self.distance(layer.masked()[:, layer.skip :].unflatten(1, (self.parts, -1)))

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.in_channels}, {self.rank}, strength={self.strength}"
