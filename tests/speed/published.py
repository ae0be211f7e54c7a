"""The published forms that an encoder is compared with: with its own widths, and with the published widths."""

from collections.abc import Callable
from typing import Any

import torch
from speed.counterpart import Counterpart
from speed.published_dgcnn import PublishedDGCNN
from speed.published_pointnet2 import PublishedPointNet2
from torch import Tensor, nn
from torch_geometric.data import Batch

from geo3d.bench.model import FULL, SAME
from geo3d.cloud import common_size, num_clouds
from geo3d.encoders import DGCNN, PointNet2
from geo3d.encoders.inputs import point_inputs
from geo3d.nn.keywords import keywords_of
from geo3d.nn.set_abstraction import SetAbstraction
from geo3d.seeds import seeded


class Rivals:
    """The published forms that an encoder is compared with, in eager torch, not compiled.

    Args:
        encoder: An encoder in any compressed form.
        batch: Clouds of one size.
        before: Function that the encoder applies to the batch, which may leave out points. The full network gets all.

    Attributes:
        sizes: ``SAME`` and ``FULL`` -> size of the published network in words; empty without a published form.
        calls: Size -> the call that evaluates it, so that a size shared by several encoders is timed only once.
    """

    def __init__(self, encoder: nn.Module, batch: Batch, before: Callable[[Batch], Batch]) -> None:
        self.sizes: dict[str, str] = {}
        self.calls: dict[str, Callable[[], Tensor]] = {}
        for kind, like, seen in ((SAME, encoder, before(batch)), (FULL, full(encoder), batch)):
            model = None if like is None else counterpart(like)
            if like is not None and model is not None:
                size = self.sizes[kind] = f"{size_of(like)}, {common_size(seen)} points"
                self.calls[size] = call_of(model, like, seen)


def counterpart(encoder: nn.Module) -> Counterpart | None:
    """The published form of a network with the encoder's channels, embedding, neighbours and graph; None without one.

    It is in floats with random weights, since times do not depend on them. Of a pruned encoder it has the channels
    that are left.
    """
    if isinstance(encoder, DGCNN):
        form: type[Any] = PublishedDGCNN
    elif isinstance(encoder, PointNet2) and encoder.in_channels == 3 and _single_scale(encoder):
        form = PublishedPointNet2
    else:
        return None
    with seeded(0, "bench", "published"):
        return form(type(encoder)(**keywords_of(encoder))).eval()


def full(encoder: nn.Module) -> nn.Module | None:
    """An encoder of the same class and of the published size; None if the class has no published form."""
    with seeded(0, "bench", "published"):
        if isinstance(encoder, DGCNN):
            return DGCNN(in_channels=encoder.in_channels)
        return PointNet2() if isinstance(encoder, PointNet2) and encoder.in_channels == 3 else None


def size_of(encoder: nn.Module) -> str:
    """The size of a network in words.

    Example:
        >>> size_of(DGCNN(k=12, channels=(32, 64), embedding=512, dynamic=False))
        'DGCNN, channels 32-64, embedding 512, k = 12, one graph'
    """
    if isinstance(encoder, DGCNN):
        graph = "" if encoder.dynamic else ", one graph"
        channels = "-".join(map(str, encoder.channels))
        return f"DGCNN, channels {channels}, embedding {encoder.embedding}, k = {encoder.k}{graph}"
    if isinstance(encoder, PointNet2):
        samples = "-".join(map(str, encoder.num_samples))
        return f"PointNet++, {samples} samples, {encoder.cloud_channels} channels"
    return type(encoder).__name__


def call_of(model: Counterpart, encoder: nn.Module, batch: Batch) -> Callable[[], Tensor]:
    """The call that evaluates a published form on clouds of one size, in inference mode."""
    x = point_inputs(batch, int(encoder.in_channels))  # type: ignore[arg-type]
    clouds = x.view(num_clouds(batch), -1, x.shape[1]).transpose(1, 2).contiguous()

    def call() -> Tensor:
        with torch.inference_mode():
            return model(clouds)

    return call


def _single_scale(encoder: PointNet2) -> bool:
    return all(len(level.scales) == 1 for level in encoder.levels if isinstance(level, SetAbstraction))
