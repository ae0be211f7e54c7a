"""Exponential moving averages of a module's weights: for momentum encoders, and for averaged weights to publish."""

import copy

import torch
from torch import nn


def average_of(module: nn.Module) -> nn.Module:
    """A copy of the module that takes no gradient."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, momentum: float) -> None:
    """Average <- momentum * average + (1 - momentum) * module, for parameters only; buffers do not change."""
    for old, new in zip(average.parameters(), module.parameters(), strict=True):
        old.lerp_(new.to(old.dtype), 1 - momentum)


@torch.no_grad()
def copy_buffers(average: nn.Module, module: nn.Module) -> None:
    """Copy the module's buffers, such as the running statistics of its norms, to the average."""
    for old, new in zip(average.buffers(), module.buffers(), strict=True):
        old.copy_(new)
