"""Learned threshold pruning: weights, or whole output channels, below a learned threshold become zero."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

LR_FACTOR = 10.0
"""A step of Adam moves a threshold by a fraction ``lr * LR_FACTOR`` of itself: past all weights in some 100 steps."""

TEMPERATURE = {True: 1e-3, False: 1.0}
"""T0 for single weights (True) and for groups (False). The mean squares of groups lie close together, so their band
around the threshold has to be wider to hold a tenth of them."""


def squares(weight: Tensor, rows: int | None) -> Tensor:
    """The z that is compared with the threshold: (out, in) w^2, or (ceil(out / rows),) its mean over each group.

    Args:
        weight: (out, in).
        rows: None for single weights; otherwise the number of successive rows in a group.
    """
    if rows is None:
        return weight**2
    means = pad((weight**2).mean(1), (0, -len(weight) % rows)).view(-1, rows)
    sizes = pad(torch.ones_like(weight[:, 0]), (0, -len(weight) % rows)).view(-1, rows)
    return means.sum(1) / sizes.sum(1)


def temperature(z: Tensor, factor: float) -> Tensor:
    """() T = T0 var(|w|) (equation 15), with sqrt(z) for |w|; above zero even if all groups are equal."""
    spread = z.sqrt().var(correction=0)
    return (factor * spread).clamp_min(torch.finfo(z.dtype).tiny).maximum(1e-6 * z.mean())


def gates(weight: Tensor, tau: Tensor, factor: float, rows: int | None) -> Tensor:
    """S = sigm((z - tau) / T), one per weight or group; constant with respect to the weights (equation 14)."""
    z = squares(weight.detach(), rows)
    return torch.sigmoid((z - tau) / temperature(z, factor))


class Threshold(nn.Module):
    """(out, in) pruned weight: the ``mask`` of a layer in learned threshold pruning (LTP, arXiv 2003.00075).

    ``v = w S`` with ``S = sigm((w^2 - tau) / T)``, ``T = T0 var(|w|)`` and one learned tau. Gradients are the paper's:
    ``dv/dw := S`` and ``dv/dtau = -w S (1 - S) / T``. (The true ``dv/dw`` drives weights near the threshold away from
    it, and tau stands still.) The weights of a group share a gate, which depends on the mean of their squares.

    The trained parameter is log(tau). A threshold is a square of weights, 1e-4 in one layer and 1e-1 in another, and a
    step of Adam on its logarithm moves it by the same fraction everywhere. (If tau were stored relative to the mean
    square of the weights, it would move whenever they do, against the published gradient.) As dL/dtau sums over a whole
    layer, the gradient of each use of log(tau) is clipped to [-1, 1]. The attribute ``lr_factor`` of the parameter
    makes the optimiser give it a group of its own.

    A group's gate scales whole rows. A BatchNorm after the layer undoes the scaling until the rows are as small as the
    norm's eps. So the loss of the task notices late that a channel disappears; what moves tau is the penalty on the
    number of gates.

    Args:
        shape: (out, in) of the weight.
        rows: None: every weight has its gate; otherwise this many successive rows (output channels) share one.
        factor: T0; by default from ``TEMPERATURE``.

    Attributes:
        log_tau: () parameter.
        scale: (out,) factors of the rows of the weight before they are compared with the threshold.
        frozen: () bool: whether the gates are fixed to ``kept``.
        kept: Bool, one per gate: whether it stays open once frozen.
    """

    def __init__(self, shape: tuple[int, int], rows: int | None = None, factor: float | None = None) -> None:
        super().__init__()
        self.rows = rows
        self.factor = TEMPERATURE[rows is None] if factor is None else factor
        self.log_tau = nn.Parameter(torch.zeros(()))
        self.scale: Tensor
        self.frozen: Tensor
        self.kept: Tensor
        self.register_buffer("scale", torch.ones(shape[0]))
        self.register_buffer("frozen", torch.zeros((), dtype=torch.bool))
        gate_shape = shape if rows is None else (-(-shape[0] // rows),)
        self.register_buffer("kept", torch.ones(gate_shape, dtype=torch.bool))
        self._mark()

    def _mark(self) -> None:
        self.log_tau.lr_factor = LR_FACTOR  # type: ignore[attr-defined]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._mark()  # a copied parameter has lost its attributes

    @property
    def tau(self) -> Tensor:
        """() threshold."""
        return self.log_tau.exp()

    def squares(self, weight: Tensor) -> Tensor:
        """The z of the scaled weight, one per gate: what is compared with tau."""
        return squares(weight * self.scale[:, None], self.rows)

    @torch.no_grad()
    def start(self, weight: Tensor, fraction: float = 0.05) -> None:
        """Set tau so that z of this ``fraction`` of the gates is below it."""
        z = self.squares(weight).flatten()
        low = z.kthvalue(max(1, round(fraction * len(z)))).values
        self.log_tau.copy_(low.maximum(1e-6 * z.mean()).clamp_min(torch.finfo(z.dtype).tiny).log())

    def soft(self, weight: Tensor) -> Tensor:
        """The S of every gate, differentiable in log(tau)."""
        log_tau: Tensor = self.log_tau
        if torch.is_grad_enabled() and log_tau.requires_grad:
            log_tau = log_tau.clone()  # a hook on a parameter would not survive a copy of the module
            log_tau.register_hook(lambda grad: grad.clamp(-1, 1))
        return gates(weight * self.scale[:, None], log_tau.exp(), self.factor, self.rows)

    def hard(self, weight: Tensor) -> Tensor:
        """Bool, one per gate: whether z > tau; once frozen, ``kept``."""
        return torch.where(self.frozen, self.kept, self.squares(weight.detach()) > self.tau.detach())

    @torch.no_grad()
    def freeze(self, kept: Tensor) -> None:
        """Fix the gates to ``kept`` (bool, as ``hard`` gives it) and stop training the threshold."""
        self.kept.copy_(kept)
        self.frozen.fill_(True)
        self.log_tau.requires_grad_(False)

    def gates(self, weight: Tensor) -> Tensor:
        """Factors that the gates apply now: S, or 0 and 1 once frozen."""
        # where, not if: a branch on a tensor would wait for a GPU
        return torch.where(self.frozen, self.kept.to(weight.dtype), self.soft(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """(out, in) pruned weight."""
        gate = self.gates(weight)
        return weight * (gate if self.rows is None else self.per_row(gate, len(weight))[:, None])

    def per_row(self, gate: Tensor, out_channels: int) -> Tensor:
        """(out_channels,) values of the groups' gates, repeated for each output channel of a group."""
        assert self.rows is not None
        return gate.repeat_interleave(self.rows)[:out_channels]

    def l0(self, weight: Tensor) -> Tensor:
        """() soft number of weights kept, the sum of S (equation 6); ``dL0/dtau = -sum S (1 - S) / T``."""
        gate = self.gates(weight)
        return gate.sum() if self.rows is None else self.per_row(gate, len(weight)).sum() * weight.shape[1]

    @torch.no_grad()
    def transition(self, weight: Tensor) -> float:
        """Fraction of gates with |z - tau| < 4 T; tau learns from these only, so at 0 it stands still."""
        z = self.squares(weight)
        return float(((z - self.tau).abs() < 4 * temperature(z, self.factor)).float().mean())

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"rows={self.rows}, factor={self.factor}"
