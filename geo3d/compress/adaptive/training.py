"""How sub-networks are taught by the largest one, and statistics of their own for each of them."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from geo3d.nn.imitation import divergence, scaled_distance
from geo3d.nn.norm import BatchNorm

T = TypeVar("T")


class Statistics(nn.Module):
    """Running statistics of the norms of one setting, in three tensors; they begin as the leading ones of the full.

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
        """The norms' buffers by name, as views: what a norm writes into them stays."""
        out, start = {}, 0
        for i, (name, size) in enumerate(self.sizes.items()):
            out[f"{name}.running_mean"] = self.mean[start : start + size]
            out[f"{name}.running_var"] = self.var[start : start + size]
            out[f"{name}.num_batches_tracked"] = self.batches[i]
            start += size
        return out

    def reset(self) -> None:
        """Forget all batches."""
        self.mean.zero_()
        self.var.fill_(1)
        self.batches.zero_()


def sample_settings(settings: Sequence[T], count: int, generator: torch.Generator) -> list[T]:
    """The first, ``count - 2`` of those between at random, and the last; all, if there are not more."""
    if len(settings) <= count:
        return list(settings)
    drawn = torch.randperm(len(settings) - 2, generator=generator, device=generator.device)[: max(0, count - 2)]
    return [settings[0], *(settings[1 + i] for i in sorted(drawn.tolist())), settings[-1]]


def imitation(cloud: Tensor, target: Tensor, embedding: int) -> Tensor:
    """Mean squared distance from the target on the leading channels, in units of its std over the batch.

    MSE, not cosine: one head reads all settings, so it needs features of equal scale. Divided by the batch std, so that
    large channels do not dominate; the std is taken as at least a tenth of the mean one.

    Args:
        cloud: (B, 2 * E) features, maxima and means.
        target: Those to be imitated, without gradient.
        embedding: How many channels of either half are compared.
    """
    cloud, target = (x.float().unflatten(1, (2, -1))[:, :, :embedding] for x in (cloud, target))
    deviation = target.std(0, correction=0)
    deviation = deviation.clamp_min(0.1 * float(deviation.mean())).clamp_min(1e-3)
    return scaled_distance(cloud, target, deviation)


def disagreement(logits: Tensor, target: Tensor) -> Tensor:
    """Kullback-Leibler divergence of softmax(logits) from softmax(target), mean over the clouds."""
    return divergence(logits.float(), target.float())


def logits_of(head: Callable[[Tensor], Tensor], cloud: Tensor) -> Tensor:
    """The head's logits without dropout; its running statistics are not changed."""
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
