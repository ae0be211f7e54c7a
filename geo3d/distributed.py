"""Collective operations with gradients; with a single process they return their input."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """The number of processes that train together; 1 when torch.distributed is not in use."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _SumOverProcesses(torch.autograd.Function):
    """y = sum of x over processes; every x enters the loss of every process, so backward sums the gradients as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad


def sum_over_processes(x: Tensor) -> Tensor:
    """The sum of ``x`` over all processes, differentiable; its shape must be the same in all of them."""
    return x if world_size() == 1 else _SumOverProcesses.apply(x)


def sums_over_processes(*sums: Tensor) -> tuple[Tensor, ...]:
    """Each tensor summed over all processes, differentiable; its shape must be the same in all of them."""
    return tuple(sum_over_processes(s) for s in sums)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()  # first, because empty_like copies its memory layout
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]


def gather(x: Tensor) -> Tensor:
    """(W * B, ...) rows of all W processes, in the order of their ranks, differentiable.

    Every process must pass the same number of rows B. The gradient of each row is the sum of its gradients in all
    processes, so that averaging parameter gradients over processes (as DDP does) gives the gradient of the mean of
    their losses.
    """
    return x if world_size() == 1 else _Gather.apply(x)
