"""Statistics of every setting, and of a head behind it, taken anew once the weights are final."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import nn
from torch_geometric.data import Batch

from geo3d.compress.adaptive.encoder import Adaptive
from geo3d.compress.adaptive.slices import Setting, farthest_subset
from geo3d.nn.norm import BatchNorm
from geo3d.nn.quantizer import Quantizer


@contextmanager
def measuring(module: nn.Module) -> Iterator[None]:
    """Inside, the norms take plain averages over all batches, and everything else is in evaluation mode.

    But quantisers that were never run set their steps, as they do in training.
    """
    modes = {each: each.training for each in module.modules()}
    momenta = {each: each.momentum for each in modes if isinstance(each, nn.modules.batchnorm._BatchNorm)}
    module.eval()
    for each in modes:
        each.training = isinstance(each, Quantizer)
    for norm in momenta:
        norm.training, norm.momentum = True, None
    try:
        yield
    finally:
        for each, mode in modes.items():
            each.training = mode
        for norm, momentum in momenta.items():
            norm.momentum = momentum


@torch.no_grad()
def recalibrate_norms(adaptive: Adaptive, loader: Iterable[Batch], device: torch.device | str = "cpu") -> Adaptive:
    """The same encoder, in evaluation mode, with every setting's statistics averaged anew over the loader's batches.

    While it trains, a setting is seen now and then, with weights that go on changing; its statistics want to be those
    of the final weights ("post-statistics", arXiv 1903.05134).

    Args:
        adaptive: The encoder; its weights stay.
        loader: Training clouds.
        device: Where to compute.
    """
    adaptive.to(device)
    for norm in [each for each in adaptive.inner.modules() if isinstance(each, BatchNorm)]:
        norm.reset_running_stats()
    for statistics in adaptive.statistics:
        statistics.reset()
    with measuring(adaptive):
        for i, batch in enumerate(loader):
            if i and batch.num_graphs < 2:  # a last one alone would count as much as a whole batch
                continue
            thin = farthest_subset(batch.to(device), adaptive.points)
            for setting in adaptive.settings:
                adaptive.encode(setting, thin[setting.num_points])
    return adaptive.eval()


@torch.no_grad()
def head_for(
    head: nn.Module, adaptive: Adaptive, setting: Setting, loader: Iterable[Batch], device: torch.device | str = "cpu"
) -> nn.Module:
    """A copy of the head, in evaluation mode, whose statistics are those of the setting's features.

    Args:
        head: From cloud features (B, cloud_channels); dropout is off while its statistics are taken.
        adaptive: The encoder; run in evaluation mode.
        setting: One of its settings.
        loader: Training clouds.
        device: Where to compute.
    """
    mode = adaptive.training
    adaptive.eval().to(device)
    thin = (farthest_subset(batch.to(device), [setting.num_points])[setting.num_points] for batch in loader)
    cloud = torch.cat([adaptive.encode(setting, batch).cloud for batch in thin])
    adaptive.train(mode)
    copy = deepcopy(head).to(device)
    norms = [each for each in copy.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
    with measuring(copy):
        copy(cloud)  # all clouds at once: exact
    return copy.eval()
