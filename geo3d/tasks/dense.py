"""A label for every point of a cloud, by a network that sees some points at a time."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from geo3d.cloud import collate, fields, with_
from geo3d.data.blocks import Block, Grid, cut_out
from geo3d.data.prepared import prepare
from geo3d.geometry.frame import turned
from geo3d.geometry.normalize import Normalize
from geo3d.geometry.rotation import rotation_about_z
from geo3d.seeds import Key, generator

TOGETHER = 8
"""How many subsets of a cloud are run in one batch."""
LEAST = 256
"""A block with fewer points takes in those around it, so that the network sees about what it saw in training."""
FAINT = 1e-3
"""The least weight of a point, for those far from the middle of their block."""

Network = Callable[[Batch], Tensor]
Watch = Callable[[int, int], None]


class Division(NamedTuple):
    """How a cloud is divided into parts that the network sees."""

    num_points: int | None
    """Points of a part; None for all."""
    votes: int = 1
    """How often the cloud, or each block, is divided at random into parts."""
    block: float | None = None
    """Side of a block, in units of the cloud; None for the whole cloud at once."""
    steps: int = 2
    """A block begins every ``block / steps``."""
    turns: int = 1
    """Everything is repeated in this many poses, turned about the up axis in equal steps."""


class Part(NamedTuple):
    """Some points of a cloud."""

    cloud: Data
    rows: Tensor
    """(n,) their rows in the whole cloud."""
    weight: Tensor
    """(n,) how much their probabilities count."""


@torch.no_grad()
def point_probabilities(
    network: Network,
    cloud: Data,
    source: str,
    division: Division,
    *,
    normalize: Normalize,
    pose: Tensor | None,
    key: tuple[Key, ...],
    device: torch.device | str = "cpu",
    watch: Watch | None = None,
) -> Tensor:
    """(N, C) class probabilities of all points of one cloud, on the CPU; row i is that of the cloud's point i.

    A cloud with more points than the network sees at a time is divided at random into parts, each prepared as in
    training, so that every point is seen ``votes`` times or more; its probabilities are averaged. With a ``block``, the
    cloud is first divided into overlapping blocks, as in training on blocks, and probabilities count by a Gaussian
    around the middle of the block. Beside the cloud, one batch and (N, C) numbers are in memory.

    Args:
        network: Gives logits (M, C) of the points of a batch, in evaluation mode.
        cloud: The cloud.
        source: Its name in error messages.
        division: How it is divided.
        normalize: How each part is normalised, see :data:`geo3d.geometry.normalize.Normalize`.
        pose: (3, 3) rotation; None for none.
        key: Seeds the division.
        device: Where the network is.
        watch: Called with the number of blocks, in all poses, that are done, and of all.
    """
    total = None
    weights = torch.zeros(len(cloud.pos))
    parts = _parts(cloud, division, key, watch)
    while group := [each for _, each in zip(range(TOGETHER), parts, strict=False)]:
        clouds = [prepare(each.cloud, source, None, normalize, torch.Generator(), pose) for each in group]
        probabilities = network(collate(clouds).to(device)).float().softmax(1).cpu()
        rows, weight = torch.cat([each.rows for each in group]), torch.cat([each.weight for each in group])
        total = torch.zeros(len(weights), probabilities.shape[1]) if total is None else total
        total.index_add_(0, rows, probabilities * weight[:, None])
        weights.index_add_(0, rows, weight)
    assert total is not None
    return total / weights[:, None]


def restricted(probabilities: Tensor, parts: list[int]) -> Tensor:
    """(N, C) probabilities with those of all other parts than these set to 0."""
    kept = torch.zeros_like(probabilities)
    kept[:, parts] = probabilities[:, parts]
    return kept


def _parts(cloud: Data, division: Division, key: tuple[Key, ...], watch: Watch | None) -> Iterator[Part]:
    """All parts of a cloud."""
    if division.block is None:
        done, every = 0, division.turns
    else:
        grid = Grid(cloud.pos, division.block, division.steps)
        done, every = 0, division.turns * len(grid.places())
    for turn in range(division.turns):
        pose = None if turn == 0 else rotation_about_z(torch.tensor([2 * math.pi * turn / division.turns]))[0]
        own = key if division.turns == 1 else (*key, "turn", turn)
        blocks = [None] if division.block is None else grid.blocks(min(LEAST, division.num_points or LEAST))
        for number, block in enumerate(blocks):
            place = own if block is None else (*own, "block", number)
            for rows in _subsets(cloud, block, division, place):
                part = _points(cloud, rows) if block is None else cut_out(cloud, block, rows)
                part = part if pose is None else turned(part, pose.to(part.pos.dtype))
                yield Part(part, rows, _weights(cloud.pos[rows], block, division))
            done += 1
            if watch is not None:
                watch(done, every)


def _subsets(cloud: Data, block: Block | None, division: Division, key: tuple[Key, ...]) -> Iterator[Tensor]:
    """Rows of points; each division covers all of them, and the last subset takes what it lacks from the first."""
    rows = torch.arange(len(cloud.pos)) if block is None else block.points
    size, total = division.num_points, len(rows)
    if size is None or total <= size:
        yield rows
        return
    for vote in range(division.votes):
        order = torch.randperm(total, generator=generator(*key, "subsets", vote))
        order = torch.cat([order, order[: -total % size]])
        yield from (rows[each] for each in order.split(size))


def _weights(pos: Tensor, block: Block | None, division: Division) -> Tensor:
    """(n,) a Gaussian of the distance from the middle of the block, with a std of a quarter of its side; else ones."""
    if block is None or division.block is None:
        return torch.ones(len(pos))
    offset = (pos[:, :2].double() - block.center[:2]) / (division.block / 4)
    return (-offset.square().sum(1) / 2).exp().float().clamp(min=FAINT)


def _points(cloud: Data, index: Tensor) -> Data:
    chosen = {name: value[index] for name, field, value in fields(cloud) if field.per == "point"}
    return with_(cloud, **chosen)
