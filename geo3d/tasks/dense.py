"""A label for every point of a cloud, by a network that sees some points at a time."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from geo3d.cloud import collate, fields, with_
from geo3d.data.prepared import prepare
from geo3d.geometry.normalize import Normalize
from geo3d.seeds import Key, generator

TOGETHER = 8
"""How many subsets of a cloud are run in one batch."""


@torch.no_grad()
def point_probabilities(
    network: Callable[[Batch], Tensor],
    cloud: Data,
    source: str,
    *,
    num_points: int | None,
    normalize: Normalize,
    pose: Tensor | None,
    key: tuple[Key, ...],
    votes: int = 1,
    device: torch.device | str = "cpu",
) -> Tensor:
    """(N, C) class probabilities of all points of one cloud, on the CPU; row i is that of the cloud's point i.

    A cloud with more than ``num_points`` points is divided at random into subsets of this size, each prepared as in
    training, so that every point is seen ``votes`` times or more; its probabilities are averaged.

    Args:
        network: Gives logits (M, C) of the points of a batch, in evaluation mode.
        cloud: The cloud.
        source: Its name in error messages.
        num_points: How many points the network sees at a time; None for all.
        normalize: ``unit_sphere``, ``box`` or ``none``, for each subset.
        pose: (3, 3) rotation; None for none.
        key: Seeds the division.
        votes: How often the cloud is divided.
        device: Where the network is.
    """
    total = None
    seen = torch.zeros(len(cloud.pos))
    rows = _subsets(len(cloud.pos), num_points, votes, key)
    while group := [each for _, each in zip(range(TOGETHER), rows, strict=False)]:
        parts = [prepare(_points(cloud, each), source, None, normalize, torch.Generator(), pose) for each in group]
        probabilities = network(collate(parts).to(device)).float().softmax(1).cpu()
        index = torch.cat(group)
        total = torch.zeros(len(seen), probabilities.shape[1]) if total is None else total
        total.index_add_(0, index, probabilities)
        seen.index_add_(0, index, torch.ones(len(index)))
    assert total is not None
    return total / seen[:, None]


def _subsets(total: int, size: int | None, votes: int, key: tuple[Key, ...]) -> Iterator[Tensor]:
    """Indices of points; each division covers all of them, and the last subset takes what it lacks from the first."""
    if size is None or total <= size:
        yield torch.arange(total)
        return
    for vote in range(votes):
        order = torch.randperm(total, generator=generator(*key, "subsets", vote))
        order = torch.cat([order, order[: -total % size]])
        yield from order.split(size)


def _points(cloud: Data, index: Tensor) -> Data:
    chosen = {name: value[index] for name, field, value in fields(cloud) if field.per == "point"}
    return with_(cloud, **chosen)
