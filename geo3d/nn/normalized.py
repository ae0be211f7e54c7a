"""Batch normalisation of many rows with a LeakyReLU, with accurate statistics in single precision."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from geo3d.errors import CloudError
from geo3d.nn.norm import BatchNorm

CHUNK = 1 << 13
"""Rows processed at a time where no intermediate result is kept, so that they stay near the processor's cache."""


def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(C,) mean and (C,) biased variance of rows (R, C), accurate to the last digits even if they hardly vary."""
    guess = rows.mean(0)
    shift, square = torch.zeros_like(guess), torch.zeros_like(guess)
    for part in rows.split(CHUNK):
        offset = part - guess
        shift += offset.sum(0)
        square += offset.square_().sum(0)
    shift /= len(rows)  # the rounding error of the first guess
    return guess + shift, (square / len(rows) - shift**2).clamp_min_(0)


class _NormalizeLeakyReLU(torch.autograd.Function):
    """(R, C) batch-normalised rows after a LeakyReLU, with their (C,) mean and (C,) biased variance.

    On a CPU torch's own kernel adds the rows up one after another in single precision. Over the hundreds of thousands
    of rows of a training step that loses three digits and more.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, gamma: Tensor, beta: Tensor, eps: float, slope: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, var = moments(rows)
        rstd = torch.rsqrt(var + eps)
        out = torch.empty_like(rows)
        for part, to in zip(rows.split(CHUNK), out.split(CHUNK), strict=True):
            leaky_relu_(torch.sub(part, mean, out=to).mul_(rstd * gamma).add_(beta), slope)
        ctx.save_for_backward(rows, out, gamma, mean, rstd)
        ctx.slope = slope
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        rows, out, gamma, mean, rstd = ctx.saved_tensors
        d_beta, d_gamma, d_rows = torch.zeros_like(mean), torch.zeros_like(mean), torch.empty_like(rows)
        chunks = [tensor.split(CHUNK) for tensor in (rows, out, d_out, d_rows)]
        for x, y, d_y, d_x in zip(*chunks, strict=True):
            torch.mul(d_y, torch.where(y > 0, 1.0, ctx.slope).to(d_y.dtype) if ctx.slope else y > 0, out=d_x)
            d_beta += d_x.sum(0)
            d_gamma += (x - mean).mul_(d_x).sum(0).mul_(rstd)
        for x, _, _, d_x in zip(*chunks, strict=True):
            shared = (x - mean).mul_(rstd * d_gamma / len(rows)).add_(d_beta / len(rows))
            d_x.sub_(shared).mul_(gamma * rstd)
        return d_rows, d_gamma, d_beta, None, None


def check_rows(count: int) -> None:
    """Check that there are enough rows to take a variance.

    Raises:
        CloudError: If there are fewer than two.
    """
    if torch.compiler.is_compiling():  # the count may depend on the data
        torch._check(count >= 2)
    elif count < 2:
        raise CloudError("BatchNorm cannot be trained on a single row; give larger clouds or more of them at a time")


def leaky_relu_(x: Tensor, slope: float) -> Tensor:
    """X after a LeakyReLU in place; with a slope of 0 after a ReLU, which makes no negative zeros."""
    return F.leaky_relu_(x, slope) if slope else F.relu_(x)


def normalized_leaky_relu(norm: nn.Module, rows: Tensor, slope: float = 0.0) -> Tensor:
    """(R, C) ``leaky_relu(norm(rows), slope)`` for a BatchNorm, with accurate batch statistics even over many rows.

    ``rows`` may be overwritten.

    Raises:
        CloudError: In a training step on a single row, which has no variance.
    """
    assert isinstance(norm, BatchNorm)
    rows = rows.to(norm.weight.dtype)  # under autocast rows have fewer digits than the statistics need
    if not norm.training or norm.shared:
        return leaky_relu_(norm(rows), slope)
    check_rows(len(rows))
    out, mean, var = _NormalizeLeakyReLU.apply(rows, norm.weight, norm.bias, norm.eps, slope)
    norm.update(mean, var, float(len(rows)))
    return out
