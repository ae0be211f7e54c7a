"""Cloud features of whole data sets, and BatchNorm running statistics recalibrated on them."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d.nn.norm import BatchNorm


@torch.no_grad()
def extract(encoder: nn.Module, loader: Iterable[Batch], device: torch.device | str = "cpu") -> Tensor:
    """(n, cloud_channels) float32 features on the CPU, in the loader's order; the encoder keeps its mode."""
    training = encoder.training
    encoder.eval().to(device)
    features = torch.cat([encoder(batch.to(device)).cloud.float().cpu() for batch in loader])
    encoder.train(training)
    return features


@torch.no_grad()
def recalibrate(encoder: nn.Module, loader: Iterable[Batch], device: torch.device | str = "cpu") -> nn.Module:
    """The encoder in evaluation mode, with running statistics that are plain averages over the loader's batches.

    This makes the untrained floor a fair one: its weights are random, but its statistics fit the data.
    """
    norms = [module for module in encoder.modules() if isinstance(module, BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch then takes the plain average over all batches
    encoder.train().to(device)
    for i, batch in enumerate(loader):
        if i == 0 or batch.num_graphs > 1:  # a last batch of one cloud has no statistics of its own
            encoder(batch.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return encoder.eval()
