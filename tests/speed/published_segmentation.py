"""Segmentation networks for scenes in their published forms: every edge and every group is a row of a tensor."""

from collections.abc import Iterator, Sequence

import torch
from speed.counterpart import Counterpart, Place, norm_places
from speed.published_dgcnn import edge_features, matmul_topk
from speed.published_pointnet2 import (
    Grouped,
    Groups,
    grouped,
    picked,
    single_scales,
    sizes_of,
    square_distance,
)
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, one_hot, relu

from geo3d.decoders import FeaturePropagation
from geo3d.encoders import PointNet2, SegmentationDGCNN
from geo3d.network import PointNetwork
from geo3d.nn.set_abstraction import PooledMLP, SetAbstraction


def block(inner: int, outer: int, kind: type[nn.Module], norm: type[nn.Module], bias: bool) -> nn.Sequential:
    """A convolution of size 1 and its norm."""
    return nn.Sequential(kind(inner, outer, 1, bias=bias), norm(outer))


def block_places(made: nn.Module, linear: str, norm: str) -> Iterator[Place]:
    """The places of a block's weights."""
    assert isinstance(made, nn.Sequential)
    yield Place(f"{linear}.weight", made[0].weight)
    if made[0].bias is not None:
        yield Place(f"{linear}.bias", made[0].bias)
    yield from norm_places(norm, made[1])


class Transformer(nn.Module):
    """(B, 3, N) positions times a matrix that the edges of the cloud give: DGCNN's spatial transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = nn.ModuleList(block(a, b, nn.Conv2d, nn.BatchNorm2d, False) for a, b in ((6, 64), (64, 128)))
        self.embed = block(128, 1024, nn.Conv1d, nn.BatchNorm1d, False)
        self.flat = nn.ModuleList(
            nn.Sequential(nn.Linear(a, b, bias=False), nn.BatchNorm1d(b)) for a, b in ((1024, 512), (512, 256))
        )
        self.last = nn.Linear(256, 9)

    def places(self, path: str) -> Iterator[Place]:
        """The convolutions and norms."""
        for j, made in enumerate(self.edges):
            yield from block_places(made, f"{path}.edges.mlp.linears.{j}", f"{path}.edges.mlp.norms.{j}")
        yield from block_places(self.embed, f"{path}.embed", f"{path}.norm")
        for j, made in enumerate(self.flat):
            yield from block_places(made, f"{path}.layers.{j}", f"{path}.norms.{j}")
        yield from (Place(f"{path}.last.weight", self.last.weight), Place(f"{path}.last.bias", self.last.bias))

    def forward(self, x: Tensor, neighbors: Tensor, slope: float) -> Tensor:
        """The transformed positions."""
        h = edge_features(x, neighbors)
        for made in self.edges:
            h = leaky_relu(made(h), slope)
        h = leaky_relu(self.embed(h.max(-1).values), slope).max(-1).values
        for made in self.flat:
            h = leaky_relu(made(h), slope)
        matrix = self.last(h).view(-1, 3, 3) + torch.eye(3, dtype=x.dtype)
        return (x.transpose(1, 2) @ matrix).transpose(1, 2)


class PublishedDGCNNOfPoints(Counterpart):
    """(M, classes) logits of DGCNN (arXiv 1801.07829) from clouds (B, inputs, N), without dropout.

    The network for scenes; with ``align`` and categories in the geo3d network, that for parts.

    Args:
        network: The geo3d network, whose sizes and weights are copied.
    """

    def __init__(self, network: PointNetwork) -> None:
        super().__init__()
        encoder = network.encoder
        assert isinstance(encoder, SegmentationDGCNN)
        self.k, self.first, self.slope = encoder.k, encoder.first_graph, encoder.negative_slope
        self.transformer = Transformer() if encoder.align else None
        self.categories = network.head.categories
        told = network.head.category_channels if self.categories else 0
        self.category = block(self.categories, told, nn.Conv1d, nn.BatchNorm1d, False) if told else None
        self.edges, inner = nn.ModuleList(), encoder.in_channels
        for sizes in encoder.channels:
            steps = zip([2 * inner, *sizes[:-1]], sizes, strict=True)
            self.edges.append(nn.ModuleList(block(a, b, nn.Conv2d, nn.BatchNorm2d, False) for a, b in steps))
            inner = sizes[-1]
        self.embed = block(encoder.point_channels, encoder.embedding, nn.Conv1d, nn.BatchNorm1d, False)
        hidden = [encoder.embedding + encoder.point_channels + told, *network.head.hidden]
        self.flat = nn.ModuleList(
            block(a, b, nn.Conv1d, nn.BatchNorm1d, False) for a, b in zip(hidden[:-1], hidden[1:], strict=True)
        )
        self.last = nn.Conv1d(hidden[-1], network.head.num_classes, 1, bias=False)
        self.load(network)

    def places(self) -> Iterator[Place]:
        """The convolutions and norms."""
        if self.transformer is not None:
            yield from self.transformer.places("encoder.alignment")
        if self.category is not None:
            yield from block_places(self.category, "head.category", "head.category_norm")
        for i, layers in enumerate(self.edges):
            assert isinstance(layers, nn.ModuleList)
            path = f"encoder.layers.{i}"
            for j, made in enumerate(layers):
                one = len(layers) == 1
                names = (
                    (f"{path}.linear", f"{path}.norm") if one else (f"{path}.mlp.linears.{j}", f"{path}.mlp.norms.{j}")
                )
                yield from block_places(made, *names)
        yield from block_places(self.embed, "encoder.embed", "encoder.norm")
        for j, made in enumerate(self.flat):
            yield from block_places(made, f"head.layers.{3 * j}", f"head.layers.{3 * j + 1}")
        yield Place(f"head.layers.{3 * len(self.flat)}.weight", self.last.weight)

    def forward(self, x: Tensor, tables: Sequence[Tensor] | None = None, category: Tensor | None = None) -> Tensor:
        """Logits; ``tables``, one (B, N, k) per layer, replace the neighbours searched here.

        The network for parts takes one more table, the first, and the ``category`` (B,) of each cloud.
        """
        outputs: list[Tensor] = []
        if self.transformer is not None:
            x = self.transformer(x, matmul_topk(x, self.k) if tables is None else tables[0], self.slope)
            tables = None if tables is None else tables[1:]
        for i, layers in enumerate(self.edges):
            searched = x[:, slice(*self.first)] if i == 0 and self.first is not None else x
            h = edge_features(x, matmul_topk(searched, self.k) if tables is None else tables[i])
            assert isinstance(layers, nn.ModuleList)
            for made in layers:
                h = leaky_relu(made(h), self.slope)
            x = h.max(-1).values
            outputs.append(x)
        point = torch.cat(outputs, 1)
        whole = leaky_relu(self.embed(point), self.slope).max(-1, keepdim=True).values
        parts = [whole.repeat(1, 1, point.shape[2]), point]
        if self.category is not None:
            assert category is not None
            told = leaky_relu(self.category(one_hot(category, self.categories).to(x)[:, :, None]), self.slope)
            parts.append(told.repeat(1, 1, point.shape[2]))
        h = torch.cat(parts, 1)
        for made in self.flat:
            h = leaky_relu(made(h), self.slope)
        return self.last(h).transpose(1, 2).flatten(0, 1)


class PublishedScenePointNet2(Counterpart):
    """(M, classes) logits of single-scale PointNet++ for scenes (arXiv 1706.02413) from clouds (B, 9, N), no dropout.

    Sampling starts at point 0, where the published code starts at a random point.

    Args:
        network: The geo3d network, whose sizes and weights are copied.
    """

    def __init__(self, network: PointNetwork) -> None:
        super().__init__()
        encoder, decoder = network.encoder, network.decoder
        assert isinstance(encoder, PointNet2) and isinstance(decoder, FeaturePropagation)
        self.balls = list(zip(encoder.num_samples, *single_scales(encoder), strict=True))
        pools = [level.scales[0] for level in encoder.levels if isinstance(level, SetAbstraction)]
        self.levels = nn.ModuleList(Grouped(sizes_of(pool)) for pool in pools if isinstance(pool, PooledMLP))
        self.steps, below, skips = nn.ModuleList(), encoder.level_channels[-1], [*encoder.level_channels[-2:0:-1], 0]
        for skip, sizes in zip(skips, decoder.channels, strict=True):
            pairs = zip([skip + below, *sizes[:-1]], sizes, strict=True)
            self.steps.append(nn.ModuleList(block(a, b, nn.Conv1d, nn.BatchNorm1d, True) for a, b in pairs))
            below = sizes[-1]
        (hidden,) = network.head.hidden
        self.flat = block(below, hidden, nn.Conv1d, nn.BatchNorm1d, network.head.bias)
        self.last = nn.Conv1d(hidden, network.head.num_classes, 1, bias=network.head.output_bias)
        self.load(network)

    def places(self) -> Iterator[Place]:
        """The convolutions and norms."""
        for i, level in enumerate(self.levels):
            assert isinstance(level, Grouped)
            for j, (conv, norm) in enumerate(zip(level.convs, level.norms, strict=True)):
                path = f"encoder.levels.{i}.scales.0"
                yield from block_places(nn.Sequential(conv, norm), f"{path}.linears.{j}", f"{path}.norms.{j}")
        for i, layers in enumerate(self.steps):
            assert isinstance(layers, nn.ModuleList)
            for j, made in enumerate(layers):
                yield from block_places(made, f"decoder.steps.{i}.{3 * j}", f"decoder.steps.{i}.{3 * j + 1}")
        yield from block_places(self.flat, "head.layers.0", "head.layers.1")
        for name, tensor in self.last.named_parameters():
            yield Place(f"head.layers.3.{name}", tensor)

    def forward(self, x: Tensor, groups: Groups | None = None) -> Tensor:
        """Logits; ``groups`` replace the centres and balls searched here."""
        features = x.transpose(1, 2).contiguous()
        levels = [(features[:, :, :3].contiguous(), features)]
        for i, (level, ball) in enumerate(zip(self.levels, self.balls, strict=True)):
            centers, rows = grouped(*levels[-1], ball, groups and groups[i])
            levels.append((centers, level(rows)))
        h = levels[-1][1]
        for i, step in zip(range(len(self.steps) - 1, -1, -1), self.steps, strict=True):
            assert isinstance(step, nn.ModuleList)
            h = interpolated(levels[i][0], levels[i + 1][0], h)
            h = (torch.cat([levels[i][1], h], 2) if i else h).transpose(1, 2)
            for made in step:
                h = relu(made(h))
            h = h.transpose(1, 2)
        return self.last(relu(self.flat(h.transpose(1, 2)))).transpose(1, 2).flatten(0, 1)


def interpolated(fine: Tensor, coarse: Tensor, x: Tensor) -> Tensor:
    """(B, N, C) the rows ``x`` (B, S, C) of the three nearest coarse points, weighted by inverse squared distance."""
    near = square_distance(fine, coarse).sort(-1)
    weight = 1 / (near.values[:, :, :3] + 1e-8)
    return (picked(x, near.indices[:, :, :3]) * (weight / weight.sum(2, keepdim=True))[..., None]).sum(2)
