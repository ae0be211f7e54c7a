"""PointNet++ in its published form: sampling in a loop, balls by sorting, convolutions over groups (B, C, k, S)."""

from collections.abc import Iterator, Sequence

import torch
from speed.counterpart import Counterpart, Place, norm_places
from torch import Tensor, nn
from torch.nn.functional import relu

from geo3d.encoders import PointNet2
from geo3d.nn.set_abstraction import PooledMLP, SetAbstraction

Groups = Sequence[tuple[Tensor, Tensor]]
"""For each level the centres (B, S) and the balls around them (B, S, k), as positions inside the clouds."""


def loop_fps(pos: Tensor, num_samples: int) -> Tensor:
    """(B, num_samples) indices of farthest points of clouds (B, N, 3), beginning with point 0."""
    clouds, points, _ = pos.shape
    picks = torch.zeros(clouds, num_samples, dtype=torch.long)
    distance = torch.full((clouds, points), 1e10, dtype=pos.dtype)
    latest = torch.zeros(clouds, dtype=torch.long)
    every = torch.arange(clouds)
    for i in range(num_samples):
        picks[:, i] = latest
        offset = pos - pos[every, latest][:, None]
        new = (offset**2).sum(-1)
        closer = new < distance
        distance[closer] = new[closer]
        latest = distance.max(-1).indices
    return picks


def square_distance(a: Tensor, b: Tensor) -> Tensor:
    """(B, S, N) squared distances between ``a`` (B, S, 3) and ``b`` (B, N, 3), from a matrix product."""
    return (a**2).sum(-1)[:, :, None] + (b**2).sum(-1)[:, None, :] - 2 * a @ b.transpose(1, 2)


def sorted_ball(pos: Tensor, centers: Tensor, radius: float, k: int) -> Tensor:
    """(B, S, k) the first k points within ``radius`` of each centre; smaller balls repeat their first point."""
    clouds, points, _ = pos.shape
    index = torch.arange(points).repeat(clouds, centers.shape[1], 1)
    index[square_distance(centers, pos) > radius**2] = points
    index = index.sort(-1).values[:, :, :k]
    first = index[:, :, :1].expand_as(index)
    return torch.where(index == points, first, index)


def picked(rows: Tensor, index: Tensor) -> Tensor:
    """(B, ..., C) the rows at ``index`` (B, ...) of each cloud, from ``rows`` (B, N, C)."""
    cloud = torch.arange(len(rows)).view(-1, *[1] * (index.dim() - 1))
    return rows[cloud, index]


def grouped(
    pos: Tensor, features: Tensor | None, ball: tuple[int, float, int], given: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Centres (B, S, 3), and for each the rows (B, S, k, 3 + C) of its ball: offsets, and any features.

    Args:
        pos: (B, N, 3)
        features: (B, N, C), or None.
        ball: Number of centres, radius and number of neighbours.
        given: Centres (B, S) and balls (B, S, k) to use; None to search them.
    """
    num_samples, radius, k = ball
    index = loop_fps(pos, min(num_samples, pos.shape[1])) if given is None else given[0]
    centers = picked(pos, index)
    neighbors = sorted_ball(pos, centers, radius, k) if given is None else given[1]
    rows = picked(pos, neighbors) - centers[:, :, None]
    return centers, rows if features is None else torch.cat([rows, picked(features, neighbors)], -1)


class Grouped(nn.Module):
    """Convolution, norm and ReLU for each step of ``channels`` on (B, C, k, S), then the maximum over k."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        steps = list(zip(channels[:-1], channels[1:], strict=True))
        self.convs = nn.ModuleList(nn.Conv2d(inner, outer, 1) for inner, outer in steps)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outer) for _, outer in steps)

    def forward(self, groups: Tensor) -> Tensor:
        """(B, S, C) from ``groups`` (B, S, k, C), contiguous, because the next level gathers rows from it."""
        h = groups.permute(0, 3, 2, 1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            h = relu(norm(conv(h)))
        return h.max(2).values.transpose(1, 2).contiguous()


class PublishedPointNet2(Counterpart):
    """(B, C) cloud features of single-scale PointNet++ (arXiv:1706.02413) from clouds (B, 3, N).

    The published code starts sampling at a random point; here it is point 0.

    Args:
        encoder: The geo3d encoder, with one scale per level, to copy the sizes and weights from.
    """

    def __init__(self, encoder: PointNet2) -> None:
        super().__init__()
        self.balls = list(zip(encoder.num_samples, *single_scales(encoder), strict=True))
        self.levels = nn.ModuleList(Grouped(sizes_of(pool)) for pool in pools(encoder))
        self.load(encoder)

    def places(self) -> Iterator[Place]:
        """The convolutions and norms of the levels, the global one last."""
        for name, level in zip(pool_names(len(self.balls)), self.levels, strict=True):
            assert isinstance(level, Grouped)
            for i, (conv, norm) in enumerate(zip(level.convs, level.norms, strict=True)):
                assert isinstance(conv, nn.Conv2d) and isinstance(conv.bias, Tensor)
                yield from (
                    Place(f"{name}.linears.{i}.weight", conv.weight),
                    Place(f"{name}.linears.{i}.bias", conv.bias),
                )
                yield from norm_places(f"{name}.norms.{i}", norm)

    def forward(self, x: Tensor, groups: Groups | None = None) -> Tensor:
        """Features of the clouds; ``groups`` replace the centres and balls searched here."""
        pos = x.transpose(1, 2).contiguous()
        features: Tensor | None = None
        for i, (level, ball) in enumerate(zip(self.levels, self.balls, strict=False)):
            pos, rows = grouped(pos, features, ball, groups and groups[i])
            features = level(rows)
        assert features is not None
        return self.levels[-1](torch.cat([pos, features], -1)[:, None])[:, 0]


def pools(encoder: PointNet2) -> list[PooledMLP]:
    """The encoder's MLPs, the global one last."""
    scales = [level.scales[0] for level in encoder.levels if isinstance(level, SetAbstraction)]
    return [pool for pool in [*scales, encoder.last] if isinstance(pool, PooledMLP)]


def pool_names(num_levels: int) -> list[str]:
    """The names of these MLPs in the encoder's ``state_dict``."""
    return [*(f"levels.{i}.scales.0" for i in range(num_levels)), "last"]


def sizes_of(pool: PooledMLP) -> list[int]:
    """Channels of an MLP from its input to its output."""
    layers = [layer for layer in pool.linears if isinstance(layer, nn.Linear)]
    return [layers[0].in_features, *(layer.out_features for layer in layers)]


def single_scales(encoder: PointNet2) -> tuple[list[float], list[int]]:
    """Radii and numbers of neighbours of the levels of a network with one scale per level."""
    levels = [level for level in encoder.levels if isinstance(level, SetAbstraction)]
    assert all(len(level.scales) == 1 for level in levels), "only single-scale grouping has a published form here"
    return [level.radii[0] for level in levels], [level.num_neighbors[0] for level in levels]
