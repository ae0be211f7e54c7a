"""DGCNN in its published form: a tensor of all edges (B, 2 C, N, k), convolved, normalised and then pooled."""

from collections.abc import Iterator, Sequence

import torch
from speed.counterpart import Counterpart, Place, norm_places
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d, adaptive_max_pool1d, leaky_relu

from geo3d.encoders import DGCNN


def matmul_topk(x: Tensor, k: int) -> Tensor:
    """(B, N, k) nearest neighbours among ``x`` (B, C, N): distances from a matrix product, then ``topk``."""
    inner = x.transpose(2, 1) @ x
    square = (x * x).sum(1)
    return (2 * inner - square[:, None, :] - square[:, :, None]).topk(k, dim=-1).indices


def cdist_topk(x: Tensor, k: int) -> Tensor:
    """(B, N, k) nearest neighbours among ``x`` (B, C, N) by ``torch.cdist`` and ``topk``."""
    points = x.transpose(2, 1)
    return torch.cdist(points, points).topk(k, dim=-1, largest=False).indices


def edge_features(x: Tensor, index: Tensor) -> Tensor:
    """(B, 2 C, N, k) edge features for ``index`` (B, N, k): the difference to each neighbour, and the point itself.

    The rows are first copied to contiguous memory, as in the public code: gathering from a view of a single cloud's
    columns would be slower. The last line follows An Tao's code, which is the faster of the two public forms: the
    channels stay last in memory, which the convolution accepts. The authors' code makes another copy.
    """
    clouds, channels, points = x.shape
    rows = x.transpose(2, 1).contiguous().view(clouds * points, channels)
    first = torch.arange(0, clouds * points, points, device=x.device)[:, None, None]
    neighbor = rows[(index + first).view(-1)].view(clouds, points, -1, channels)
    center = rows.view(clouds, points, 1, channels).expand_as(neighbor)
    return torch.cat([neighbor - center, center], 3).permute(0, 3, 1, 2)


class PublishedDGCNN(Counterpart):
    """(B, 2 * embedding) cloud features of DGCNN (arXiv:1801.07829) from clouds (B, 3, N).

    Args:
        encoder: The geo3d encoder to copy the sizes and weights from.
    """

    def __init__(self, encoder: DGCNN) -> None:
        super().__init__()
        self.k, self.slope, self.dynamic = encoder.k, encoder.negative_slope, encoder.dynamic
        inner = [encoder.in_channels, *encoder.channels[:-1]]
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * c, out, 1, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(self.slope))
            for c, out in zip(inner, encoder.channels, strict=True)
        )
        self.embed = nn.Conv1d(sum(encoder.channels), encoder.embedding, 1, bias=False)
        self.norm = nn.BatchNorm1d(encoder.embedding)
        self.load(encoder)

    def places(self) -> Iterator[Place]:
        """The convolutions and norms."""
        for i, conv in enumerate(self.convs):
            assert isinstance(conv, nn.Sequential) and isinstance(conv[0], nn.Conv2d)
            yield Place(f"layers.{i}.linear.weight", conv[0].weight)
            yield from norm_places(f"layers.{i}.norm", conv[1])
        yield Place("embed.weight", self.embed.weight)
        yield from norm_places("norm", self.norm)

    def forward(self, x: Tensor, tables: Sequence[Tensor] | None = None) -> Tensor:
        """Features of the clouds; ``tables``, one (B, N, k) per layer, replace the neighbours searched here."""
        outputs: list[Tensor] = []
        for i, conv in enumerate(self.convs):
            if tables is not None:
                index = tables[i]
            elif self.dynamic or not outputs:
                index = matmul_topk(x if self.dynamic else x[:, :3], self.k)
            x = conv(edge_features(x, index)).max(-1).values
            outputs.append(x)
        h = leaky_relu(self.norm(self.embed(torch.cat(outputs, 1))), self.slope)
        return torch.cat([adaptive_max_pool1d(h, 1), adaptive_avg_pool1d(h, 1)], 1)[:, :, 0]
