"""Recalibration of the running statistics of every setting, and of a head, once the weights are final."""

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
    """Context in which the norms average over all batches and other modules are in evaluation mode.

    Quantizers are in training mode, so that those whose steps are not set yet set them.
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
    """The same encoder, in evaluation mode, with every setting's running statistics averaged over the loader's batches.

    In training a setting is run only now and then, while the weights keep changing, so its running statistics are not
    those of the final weights. This recalibration mends that ("post-statistics", arXiv 1903.05134).

    Args:
        adaptive: The encoder; its weights are not changed.
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
            if i and batch.num_graphs < 2:  # a last batch of one cloud would count as much as a full batch
                continue
            thin = farthest_subset(batch.to(device), adaptive.points)
            for setting in adaptive.settings:
                adaptive.encode(setting, thin[setting.num_points])
    return adaptive.eval()


@torch.no_grad()
def head_for(
    head: nn.Module, adaptive: Adaptive, setting: Setting, loader: Iterable[Batch], device: torch.device | str = "cpu"
) -> nn.Module:
    """A copy of the head, in evaluation mode, with the running statistics of the setting's features.

    Args:
        head: A head on cloud features (B, cloud_channels); its dropout is off while the statistics are taken.
        adaptive: The encoder, which is run in evaluation mode.
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
        copy(cloud)  # all clouds in one batch: the statistics are exact
    return copy.eval()
