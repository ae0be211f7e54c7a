"""The definition of the layers on 8-bit codes, in torch; the kernels behind ``int8`` agree with it in every bit.

Each operation on float32 is rounded by itself (no fused multiply-add), and sums have a stated order. Names and shapes
are those of ``geo3d.ops.quant.int8``. Weights are plain codes here, and nothing is checked or padded.
"""

import torch
from torch import Tensor

BLOCK = 192
"""Rows of a run: the rows of a run are summed first, then the sums of the runs."""


def rounded(x: Tensor, step: Tensor, offset: Tensor, qmax: int) -> Tensor:
    """(M, C) uint8 ``round(clamp((x - offset) / step, 0, qmax))``, half to even."""
    return torch.round(torch.clamp((x - offset) / step, 0, qmax)).to(torch.uint8)


def leaky(z: Tensor, slope: float) -> Tensor:
    """``z > 0 ? z : slope z``."""
    return torch.where(z > 0, z, z * slope)


def products(q: Tensor, codes: Tensor) -> Tensor:
    """(M, C) int32 sums of products of q (M, K) and codes (C, K); float64 holds integers below 2^53 exactly."""
    return (q.double() @ codes.double().t()).to(torch.int32)


def linear(q: Tensor, codes: Tensor, scale: Tensor, shift: Tensor, slope: float) -> Tensor:
    """(M, C) float32 ``leaky(acc * scale + shift)``."""
    return leaky(products(q, codes).float() * scale + shift, slope)


def edge_parts(
    q: Tensor, codes: Tensor, scale: Tensor, shift: Tensor, step: Tensor, offset: Tensor, qmax: int
) -> tuple[Tensor, Tensor]:
    """(M, C) float32 ``a = c - b``, and the codes (M, C) of b."""
    c, b = (products(q, codes).float() * scale + shift).chunk(2, 1)
    return (c - b).contiguous(), rounded(b, step, offset, qmax)


def edge_evaluate(
    a: Tensor,
    codes: Tensor,
    neighbors: Tensor,
    step: Tensor,
    offset: Tensor,
    scale: Tensor,
    shift: Tensor,
    slope: float,
) -> Tensor:
    """(M, C) ``leaky((a + (max_j code_j * step + offset)) * scale + shift)``."""
    top = codes[neighbors].amax(1).float()
    return leaky((a + (top * step + offset)) * scale + shift, slope)


def linear_pool(q: Tensor, codes: Tensor, scale: Tensor, shift: Tensor, slope: float, ptr: Tensor) -> Tensor:
    """(B, 2 C) maximum and mean over each cloud of what :func:`linear` gives."""
    z = linear(q, codes, scale, shift, slope)
    sizes = ptr.diff()
    largest = torch.segment_reduce(z, "max", lengths=sizes, unsafe=True)
    return torch.cat([largest, sums(z, ptr) / sizes[:, None].float()], 1)


def sums(z: Tensor, ptr: Tensor) -> Tensor:
    """(B, C) the sum over each cloud: first over runs of 192 rows, from its first row on, then over these sums.

    Each sum starts at zero and adds one row after another.

    Example:
        >>> sums(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([0, 2, 3])).tolist()
        [[3.0], [4.0]]
    """
    runs = (ptr.diff() + BLOCK - 1) // BLOCK
    first = torch.cat([runs.new_zeros(1), runs.cumsum(0)])  # first run of each cloud, then the number of runs
    cloud = torch.arange(len(runs), device=z.device).repeat_interleave(runs)
    start = ptr[cloud] + BLOCK * (torch.arange(len(cloud), device=z.device) - first[cloud])
    of_runs = _one_after_another(z, start, ptr[cloud + 1].minimum(start + BLOCK))
    return _one_after_another(of_runs, first[:-1], first[1:])


def _one_after_another(z: Tensor, start: Tensor, stop: Tensor) -> Tensor:
    """(S, C) the sums of the rows in each of S ranges; shorter ranges add zeros, which do not change their sums."""
    total = z.new_zeros(len(start), z.shape[1])
    for i in range(int((stop - start).max())):
        row = start + i
        total = total + torch.where((row < stop)[:, None], z[row.clamp_max(len(z) - 1)], 0.0)
    return total
