"""Structured convolutions (arXiv 2008.02454) for products with matrices: sums over windows, then a small matrix.

P channels in, R the rank, windows of ``L = P - R + 1`` channels. A matrix ``W (out, P)`` is structured if it is
``alpha A^T`` with the composite matrix ``A (P, R)`` of ones on a band: ``W x = alpha (A^T x)``, and ``A^T x`` are the
sums over windows, which take no product.
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
    """(P, R) float64 ``A``: column r is one on the window r, ..., r + P - R, and zero elsewhere. Of full rank.

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
    """(M, rank) sums over windows of channels: what stands in a structured layer's ``pool``.

    Args:
        in_channels: P.
        rank: R, the number of windows.
        scaled: Divide each sum by the square root of its number of terms, so that sums are as large as what enters
            them; otherwise weights and windows differ in size by that much, and train badly.
        permuted: Have an order of the channels, the buffer ``order`` (P,) that is loaded with the weights; at first
            it is the channels as they lie. Without, ``order`` is None.

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
        """None: the scale can be folded into the matrix behind it."""
        return 0

    @property
    def adds_per_row(self) -> int:
        """Additions for all windows, each channel entering and leaving once."""
        return self.in_channels + self.rank

    def basis(self) -> Tensor:
        """(P, R) float64 ``B`` with ``forward(x) = x B``: the dense equivalent of a weight alpha is ``alpha B^T``."""
        band = composite(self.in_channels, self.rank) * self.scale
        return band if self.order is None else band.to(self.order.device)[_inverse(self.order)]

    def expanded(self, alpha: Tensor) -> Tensor:
        """(..., P) the dense equivalent ``alpha B^T`` of a weight (..., R), differentiable; takes no product either."""
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
    """(M, rank) from (M, in_channels) by a learned matrix: the plain alternative to :class:`SlidingSum`.

    Args:
        in_channels: P.
        rank: How many channels it leaves.
    """

    def __init__(self, in_channels: int, rank: int) -> None:
        super().__init__()
        self.in_channels, self.rank = in_channels, rank
        self.weight = nn.Parameter(torch.zeros(rank, in_channels))

    @property
    def multiplies_per_row(self) -> int:
        """Of the product with the matrix."""
        return self.in_channels * self.rank

    @property
    def adds_per_row(self) -> int:
        """None beside those of the product."""
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
    """The regulariser that makes a layer's dense weight structured: ``||W (I - A A^+)||_F / ||W||_F``.

    As ``I - A A^+ = N N^T`` for an orthonormal basis ``N (P, P - R)`` of what is orthogonal to A's columns, this is
    ``||W N||_F / ||W||_F``; N is made once, in float64.

    Args:
        layer: The linear layer; columns of coordinates (its ``skip``) are left out. It is not made a child of this
            module, which is a child of it.
        rank: R.
        parts: So many equal parts of the weight stand over the same channels: 2 for an edge convolution.
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
        """() from 0 (structured) to 1 (orthogonal to all that is), differentiable, of ``weight`` (..., P)."""
        taken = weight if self.order is None else weight[..., self.order]
        outside = torch.linalg.vector_norm(taken @ self.complement.to(weight.dtype))
        return outside / torch.linalg.vector_norm(weight).clamp_min(torch.finfo(weight.dtype).tiny)

    def penalty(self) -> Tensor:
        """() what the layer adds to the loss."""
        (layer,) = self._layer
        return self.strength * self.distance(layer.masked()[:, layer.skip :].unflatten(1, (self.parts, -1)))

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.in_channels}, {self.rank}, strength={self.strength}"
