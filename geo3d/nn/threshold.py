"""Learned threshold pruning: weights, or whole output channels, below a learned threshold go to zero."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

LR_FACTOR = 10.0
"""A threshold moves by ``lr * LR_FACTOR`` of itself in a step of Adam: through a layer's weights in some 100 steps."""

TEMPERATURE = {True: 1e-3, False: 1.0}
"""T0 of single weights and of groups, whose means of squares lie close together: a wider band holds a tenth of them."""


def squares(weight: Tensor, rows: int | None) -> Tensor:
    """What is compared with the threshold: z = w^2, or its mean over each group.

    Args:
        weight: (out, in).
        rows: None for (out, in) single weights, else each group is so many successive rows: (ceil(out / rows),).
    """
    if rows is None:
        return weight**2
    means = pad((weight**2).mean(1), (0, -len(weight) % rows)).view(-1, rows)
    sizes = pad(torch.ones_like(weight[:, 0]), (0, -len(weight) % rows)).view(-1, rows)
    return means.sum(1) / sizes.sum(1)


def temperature(z: Tensor, factor: float) -> Tensor:
    """T = T0 var(|w|) (equation 15), with sqrt(z) for |w|; never zero, so that equal groups have one, too."""
    spread = z.sqrt().var(correction=0)
    return (factor * spread).clamp_min(torch.finfo(z.dtype).tiny).maximum(1e-6 * z.mean())


def gates(weight: Tensor, tau: Tensor, factor: float, rows: int | None) -> Tensor:
    """S = sigm((z - tau) / T), one for each group; constant with respect to the weights (equation 14)."""
    z = squares(weight.detach(), rows)
    return torch.sigmoid((z - tau) / temperature(z, factor))


class Threshold(nn.Module):
    """The place ``mask`` of a layer in learned threshold pruning (LTP, arXiv 2003.00075): weights (out, in) as pruned.

    ``v = w S`` with ``S = sigm((w^2 - tau) / T)``, ``T = T0 var(|w|)`` and one learned tau. Gradients are the paper's:
    ``dv/dw := S`` (with the true one, weights near the threshold are driven away from it and tau stands still) and
    ``dv/dtau = -w S (1 - S) / T``. Weights in groups share a gate, from the mean of their squares.

    What is stored and trained is log(tau): a threshold is a square of weights, 1e-4 in one layer and 1e-1 in another,
    and a step of Adam on its logarithm moves it by the same fraction everywhere. (Relative to the mean square of the
    weights tau would move whenever they do, against the published gradient.) As dL/dtau sums over a whole layer, each
    use of log(tau) has its gradient clipped to [-1, 1]; the optimiser gives it a group of its own by ``lr_factor``.

    A group's gate multiplies whole rows, which a BatchNorm behind the layer undoes until they are as small as the
    norm's eps: there the task notices a channel late, and the penalty on the number of gates moves tau.

    Args:
        shape: (out, in) of the weight.
        rows: None: every weight has its gate; else so many successive rows (output channels) share one.
        factor: T0; by default ``TEMPERATURE``.

    Attributes:
        log_tau: () parameter.
        scale: (out,) what the rows of the weight are multiplied by for the comparison.
        frozen: () bool: whether the gates are those of ``kept``.
        kept: Bool, one for each gate; used when frozen.
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
        """() the threshold."""
        return self.log_tau.exp()

    def squares(self, weight: Tensor) -> Tensor:
        """What every gate compares with tau: z of the scaled weight."""
        return squares(weight * self.scale[:, None], self.rows)

    @torch.no_grad()
    def start(self, weight: Tensor, fraction: float = 0.05) -> None:
        """Put tau where ``fraction`` of the gates lie below it."""
        z = self.squares(weight).flatten()
        low = z.kthvalue(max(1, round(fraction * len(z)))).values
        self.log_tau.copy_(low.maximum(1e-6 * z.mean()).clamp_min(torch.finfo(z.dtype).tiny).log())

    def soft(self, weight: Tensor) -> Tensor:
        """S of every gate, with its gradient to log(tau)."""
        log_tau: Tensor = self.log_tau
        if torch.is_grad_enabled() and log_tau.requires_grad:
            log_tau = log_tau.clone()  # a hook on a parameter would not survive a copy of the module
            log_tau.register_hook(lambda grad: grad.clamp(-1, 1))
        return gates(weight * self.scale[:, None], log_tau.exp(), self.factor, self.rows)

    def hard(self, weight: Tensor) -> Tensor:
        """Bool, one for each gate: z > tau, or what was frozen."""
        return torch.where(self.frozen, self.kept, self.squares(weight.detach()) > self.tau.detach())

    @torch.no_grad()
    def freeze(self, kept: Tensor) -> None:
        """From now on the gates are ``kept`` (bool, as ``hard`` gives it)."""
        self.kept.copy_(kept)
        self.frozen.fill_(True)
        self.log_tau.requires_grad_(False)

    def gates(self, weight: Tensor) -> Tensor:
        """The gates as they act now: S, or 0 and 1 when frozen."""
        return torch.where(self.frozen, self.kept.to(weight.dtype), self.soft(weight))  # no wait for a GPU

    def forward(self, weight: Tensor) -> Tensor:
        """(out, in) the weight as pruned."""
        gate = self.gates(weight)
        return weight * (gate if self.rows is None else self.per_row(gate, len(weight))[:, None])

    def per_row(self, gate: Tensor, out_channels: int) -> Tensor:
        """(out_channels,) what each output channel gets of the gates of groups."""
        assert self.rows is not None
        return gate.repeat_interleave(self.rows)[:out_channels]

    def l0(self, weight: Tensor) -> Tensor:
        """() the soft number of weights kept, the sum of S (equation 6); ``dL0/dtau = -sum S (1 - S) / T``."""
        gate = self.gates(weight)
        return gate.sum() if self.rows is None else self.per_row(gate, len(weight)).sum() * weight.shape[1]

    @torch.no_grad()
    def transition(self, weight: Tensor) -> float:
        """The fraction of gates with |z - tau| < 4 T, which tau learns from; at 0 pruning stands still."""
        z = self.squares(weight)
        return float(((z - self.tau).abs() < 4 * temperature(z, self.factor)).float().mean())

    def extra_repr(self) -> str:
        """What torch shows of it."""
        return f"rows={self.rows}, factor={self.factor}"
