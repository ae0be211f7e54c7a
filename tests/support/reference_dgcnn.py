"""The published form of DGCNN, which computes each edge by itself; geo3d's factored form must equal it.

Written from the equations of arXiv 1801.07829 with the layer list and the parameter names of the public PyTorch code.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu


def edge_layer(x: Tensor, neighbors: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, slope: float = 0.2) -> Tensor:
    """(M, out) features: convolution, norm and activation of explicit edges (1, 2 C, M, k), and their maximum."""
    center = x[:, None].expand(-1, neighbors.shape[1], -1)
    edges = torch.cat([x[neighbors] - center, center], 2).permute(2, 0, 1)[None]
    return leaky_relu(norm(conv(edges)), slope).max(3).values[0].t()


class PublishedDGCNN(nn.Module):
    """The classification network, which takes the neighbour tables as inputs."""

    def __init__(
        self, channels: Sequence[int] = (64, 64, 128, 256), embedding: int = 1024, classes: int = 40, inputs: int = 3
    ) -> None:
        super().__init__()
        inner = [inputs, *channels[:-1]]
        self.count = len(channels)
        for i, (c, out) in enumerate(zip(inner, channels, strict=True), 1):
            setattr(self, f"bn{i}", nn.BatchNorm2d(out))
            setattr(self, f"conv{i}", nn.Sequential(nn.Conv2d(2 * c, out, 1, bias=False), getattr(self, f"bn{i}")))
        last = self.count + 1
        setattr(self, f"bn{last}", nn.BatchNorm1d(embedding))
        conv = nn.Conv1d(sum(channels), embedding, 1, bias=False)
        setattr(self, f"conv{last}", nn.Sequential(conv, getattr(self, f"bn{last}")))
        self.linear1 = nn.Linear(2 * embedding, 512, bias=False)
        self.bn6 = nn.BatchNorm1d(512)
        self.linear2 = nn.Linear(512, 256)
        self.bn7 = nn.BatchNorm1d(256)
        self.linear3 = nn.Linear(256, classes)

    def features(self, x: Tensor, ptr: Tensor, tables: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """(M, sum(channels)) features of points and (B, 2 * embedding) features of clouds."""
        outputs = []
        for i, neighbors in enumerate(tables, 1):
            conv, norm = getattr(self, f"conv{i}")
            x = edge_layer(x, neighbors, conv, norm)
            outputs.append(x)
        point = torch.cat(outputs, 1)
        h = leaky_relu(getattr(self, f"conv{self.count + 1}")(point.t()[None]), 0.2)[0].t()
        clouds = [h[start:stop] for start, stop in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)]
        cloud = torch.stack([torch.cat([one.max(0).values, one.mean(0)]) for one in clouds])
        return point, cloud
