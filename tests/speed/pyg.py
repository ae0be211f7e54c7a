"""The two encoders built from PyTorch Geometric's layers, which compute the features of every single edge."""

from collections.abc import Iterator, Sequence

import torch
from speed.counterpart import Counterpart, Place, norm_places
from speed.published_dgcnn import cdist_topk
from speed.published_pointnet2 import pool_names, pools, single_scales, sizes_of
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch_geometric.nn import EdgeConv, PointNetConv, global_max_pool, global_mean_pool

from geo3d.cloud import Layout
from geo3d.encoders import DGCNN, PointNet2
from geo3d.ops.search.ball import ball_query
from geo3d.ops.search.farthest import farthest_points
from geo3d.ops.search.knn import to_edge_index


class PyGDGCNN(Counterpart):
    """(B, 2 * embedding) cloud features of DGCNN from points (M, 3) of clouds with ``num_points`` points each.

    PyG's neighbour search needs a package without a release for current versions, so the edges come from
    ``torch.cdist`` and ``topk``.

    Args:
        encoder: The geo3d encoder to copy the sizes and weights from.
    """

    def __init__(self, encoder: DGCNN) -> None:
        super().__init__()
        self.k, self.slope = encoder.k, encoder.negative_slope
        inner = [encoder.in_channels, *encoder.channels[:-1]]
        self.convs = nn.ModuleList(
            EdgeConv(nn.Sequential(nn.Linear(2 * c, out, bias=False), nn.BatchNorm1d(out), nn.LeakyReLU(self.slope)))
            for c, out in zip(inner, encoder.channels, strict=True)
        )
        self.embed = nn.Linear(sum(encoder.channels), encoder.embedding, bias=False)
        self.norm = nn.BatchNorm1d(encoder.embedding)
        self.load(encoder)  # last: EdgeConv initialises the network that it gets

    def places(self) -> Iterator[Place]:
        """The layers; PyG puts the point's own columns before those of the difference."""
        for i, conv in enumerate(self.convs):
            assert isinstance(conv, EdgeConv)
            weight = conv.nn[0].weight
            yield Place(f"layers.{i}.linear.weight", weight, shift=weight.shape[1] // 2)
            yield from norm_places(f"layers.{i}.norm", conv.nn[1])
        yield Place("embed.weight", self.embed.weight)
        yield from norm_places("norm", self.norm)

    def forward(self, pos: Tensor, num_points: int, tables: Sequence[Tensor] | None = None) -> Tensor:
        """Features of the clouds; ``tables``, one (M, k) per layer, replace the neighbours searched here."""
        x, outputs = pos, []
        clouds = len(pos) // num_points
        first = torch.arange(0, len(pos), num_points)[:, None, None]
        for i, conv in enumerate(self.convs):
            if tables is None:
                index = cdist_topk(x.detach().view(clouds, num_points, -1).transpose(1, 2), self.k)
                neighbors = (index + first).flatten(0, 1)
            else:
                neighbors = tables[i]
            x = conv(x, to_edge_index(neighbors))
            outputs.append(x)
        h = leaky_relu(self.norm(self.embed(torch.cat(outputs, 1))), self.slope)
        batch = torch.arange(clouds).repeat_interleave(num_points)
        return torch.cat([global_max_pool(h, batch), global_mean_pool(h, batch)], 1)


class PyGPointNet2(Counterpart):
    """(B, C) cloud features of single-scale PointNet++ from points (M, 3), sampled and grouped by geo3d's operators.

    Args:
        encoder: The geo3d encoder, with one scale per level, to copy the sizes and weights from.
        distinct: Whether to drop the repeated edges that fill up a ball, as PyG's users do. In evaluation this computes
            the same function; in training another one, since BatchNorm sees other edges.
    """

    def __init__(self, encoder: PointNet2, distinct: bool) -> None:
        super().__init__()
        self.distinct = distinct
        self.balls = list(zip(encoder.num_samples, *single_scales(encoder), strict=True))
        *local, last = (stacked(sizes_of(pool)) for pool in pools(encoder))
        self.convs = nn.ModuleList(PointNetConv(local_nn, add_self_loops=False) for local_nn in local)
        self.last = last
        self.load(encoder)  # last: PointNetConv initialises the network that it gets

    def places(self) -> Iterator[Place]:
        """The layers; PyG puts a point's features before its position."""
        stacks = [conv.local_nn for conv in self.convs if isinstance(conv, PointNetConv)] + [self.last]
        for number, (name, layers) in enumerate(zip(pool_names(len(self.balls)), stacks, strict=True)):
            for i in range(len(layers) // 3):
                shift = -3 if i == 0 and number < len(self.balls) else 0
                yield Place(f"{name}.linears.{i}.weight", layers[3 * i].weight, shift)
                yield Place(f"{name}.linears.{i}.bias", layers[3 * i].bias)
                yield from norm_places(f"{name}.norms.{i}", layers[3 * i + 1])

    def forward(self, pos: Tensor, num_points: int) -> Tensor:
        """Features of the clouds."""
        clouds = len(pos) // num_points
        x: Tensor | None = None
        for conv, (num_samples, radius, k) in zip(self.convs, self.balls, strict=True):
            ptr = torch.arange(0, len(pos) + 1, num_points)
            count = min(num_samples, num_points)
            index = farthest_points(pos, Layout(ptr, num_points), count)
            centers, center_ptr = pos[index], torch.arange(0, clouds * count + 1, count)
            edges = to_edge_index(
                ball_query(pos, Layout(ptr, num_points), centers, Layout(center_ptr, count), radius, k)
            )
            x = conv((x, None), (pos, centers), distinct_edges(edges, k) if self.distinct else edges)
            pos, num_points = centers, count
        assert x is not None
        batch = torch.arange(clouds).repeat_interleave(num_points)
        return global_max_pool(self.last(torch.cat([pos, x], 1)), batch)


def stacked(channels: Sequence[int]) -> nn.Sequential:
    """Linear layer, BatchNorm and ReLU for each step of ``channels``."""
    layers: list[nn.Module] = []
    for inner, outer in zip(channels[:-1], channels[1:], strict=True):
        layers += [nn.Linear(inner, outer), nn.BatchNorm1d(outer), nn.ReLU()]
    return nn.Sequential(*layers)


def distinct_edges(edges: Tensor, k: int) -> Tensor:
    """The edges (2, S * k) of balls without those that repeat the first of their ball.

    Example:
        >>> distinct_edges(torch.tensor([[4, 7, 4, 5, 5, 5], [0, 0, 0, 1, 1, 1]]), k=3).tolist()
        [[4, 7, 5], [0, 0, 1]]
    """
    source = edges[0].view(-1, k)
    kept = source != source[:, :1]
    kept[:, 0] = True
    return edges[:, kept.view(-1)]
