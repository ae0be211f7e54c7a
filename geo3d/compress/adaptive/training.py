"""Training of the sub-networks: their running statistics, the choice of settings, and the distillation losses."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from geo3d.nn.imitation import divergence, scaled_distance
from geo3d.nn.norm import BatchNorm

T = TypeVar("T")


class Statistics(nn.Module):
    """Running statistics of all norms of one setting, in three buffers; at first copies of the full encoder's.

    Args:
        full: The full encoder.
        form: The sub-network, whose norms have the same names.
    """

    mean: Tensor
    var: Tensor
    batches: Tensor

    def __init__(self, full: nn.Module, form: nn.Module) -> None:
        super().__init__()
        norms = {name: norm for name, norm in form.named_modules() if isinstance(norm, BatchNorm)}
        self.sizes = {name: norm.num_features for name, norm in norms.items()}
        begins: list[tuple[Any, int]] = [(full.get_submodule(name), size) for name, size in self.sizes.items()]
        for name, key in (("mean", "running_mean"), ("var", "running_var")):
            self.register_buffer(name, torch.cat([getattr(norm, key)[:size] for norm, size in begins]))
        self.register_buffer("batches", torch.stack([norm.num_batches_tracked for norm, _ in begins]))

    def named(self) -> dict[str, Tensor]:
        """The norms' buffers by name, as views, so that what a norm writes into them is stored here."""
        out, start = {}, 0
        for i, (name, size) in enumerate(self.sizes.items()):
            out[f"{name}.running_mean"] = self.mean[start : start + size]
            out[f"{name}.running_var"] = self.var[start : start + size]
            out[f"{name}.num_batches_tracked"] = self.batches[i]
            start += size
        return out

    def reset(self) -> None:
        """Reset the statistics to those of a new norm."""
        self.mean.zero_()
        self.var.fill_(1)
        self.batches.zero_()


def sample_settings(settings: Sequence[T], count: int, generator: torch.Generator) -> list[T]:
    """The first setting, ``count - 2`` random ones between, and the last; all if there are at most ``count``."""
    if len(settings) <= count:
        return list(settings)
    drawn = torch.randperm(len(settings) - 2, generator=generator, device=generator.device)[: max(0, count - 2)]
    return [settings[0], *(settings[1 + i] for i in sorted(drawn.tolist())), settings[-1]]


def imitation(cloud: Tensor, target: Tensor, embedding: int) -> Tensor:
    """() mean squared distance from the target on the leading channels, in units of the target's std over the batch.

    MSE, not cosine: one head reads all settings, so it needs features of equal scale. The differences are divided by
    the batch std of each channel, so that large channels do not dominate. Stds below a tenth of their mean (or 1e-3)
    are raised to it.

    Args:
        cloud: (B, 2 * E) features, maxima and means.
        target: (B, 2 * E) features of the largest setting, without gradient.
        embedding: How many leading channels of each half are compared.
    """
    cloud, target = (x.float().unflatten(1, (2, -1))[:, :, :embedding] for x in (cloud, target))
    std = target.std(0, correction=0)
    std = std.clamp_min(0.1 * float(std.mean())).clamp_min(1e-3)
    return scaled_distance(cloud, target, std)


def disagreement(logits: Tensor, target: Tensor) -> Tensor:
    """() Kullback-Leibler divergence of softmax(logits) from softmax(target), mean over the clouds."""
    return divergence(logits.float(), target.float())


def logits_of(head: Callable[[Tensor], Tensor], cloud: Tensor) -> Tensor:
    """(B, K) logits of the head, without dropout and without updating its running statistics."""
    if not isinstance(head, nn.Module):
        return head(cloud)
    dropping = [each for each in head.modules() if isinstance(each, nn.Dropout) and each.training]
    for each in dropping:
        each.training = False
    try:
        return functional_call(head, {name: buffer.clone() for name, buffer in head.named_buffers()}, (cloud,))
    finally:
        for each in dropping:
            each.training = True
