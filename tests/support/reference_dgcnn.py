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


class PublishedSegmentation(nn.Module):
    """The scene network, or with ``parts`` the part network, with the parameter names of the public PyTorch code.

    Clouds come as a list of (N, inputs) tensors, and ``tables`` finds neighbours, so that both sides can use the same.
    """

    def __init__(self, classes: int, parts: bool = False, inputs: int = 9, categories: int = 16) -> None:
        super().__init__()
        self.parts = parts
        edges = [(2 * inputs, 64), (64, 64), (128, 64), (64, 64), (128, 64)]
        flat = [(192, 1024), (categories, 64), (1280, 256), (256, 256), (256, 128)]
        flat = flat if parts else [(192, 1024), (1216, 512), (512, 256)]
        for i, (inner, outer) in enumerate(edges + flat, 1):
            conv = nn.Conv2d(inner, outer, 1, bias=False) if i <= 5 else nn.Conv1d(inner, outer, 1, bias=False)
            setattr(self, f"bn{i}", nn.BatchNorm2d(outer) if i <= 5 else nn.BatchNorm1d(outer))
            setattr(self, f"conv{i}", nn.Sequential(conv, getattr(self, f"bn{i}"), nn.LeakyReLU(0.2)))
        setattr(self, f"conv{len(edges + flat) + 1}", nn.Conv1d(flat[-1][1], classes, 1, bias=False))
        if parts:
            self.transform_net = PublishedTransform()

    def forward(self, clouds: Sequence[Tensor], tables, categories: Sequence[int] = ()) -> Tensor:
        """(M, classes) logits; ``tables(rows, first)`` gives the neighbours of a list of (N, C) tensors."""
        x = list(clouds)
        if self.parts:
            x = [one @ matrix for one, matrix in zip(x, self.transform_net(x, tables(x, True)), strict=True)]
        outputs = []
        for i, convs in enumerate(((self.conv1, self.conv2), (self.conv3, self.conv4), (self.conv5,))):
            x = _edges(x, tables(x, i == 0), convs)
            outputs.append(x)
        points = [torch.cat(each, 1) for each in zip(*outputs, strict=True)]
        h = _flat(points, self.conv6)
        whole = [one.max(0).values for one in h]
        if self.parts:
            known = self.conv7(torch.eye(16, dtype=points[0].dtype)[list(categories)][..., None])[..., 0]
            whole = [torch.cat([a, b]) for a, b in zip(whole, known, strict=True)]
        rows = [torch.cat([w.expand(len(p), -1), p], 1) for w, p in zip(whole, points, strict=True)]
        for conv in (
            (self.conv8, self.conv9, self.conv10, self.conv11) if self.parts else (self.conv7, self.conv8, self.conv9)
        ):
            rows = _flat(rows, conv)
        return torch.cat(rows)


class PublishedTransform(nn.Module):
    """The spatial transformer of the part network; the code assigns ``bn3`` twice, as it is done here."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(64), nn.BatchNorm2d(128), nn.BatchNorm1d(1024)
        self.conv1 = nn.Sequential(nn.Conv2d(6, 64, 1, bias=False), self.bn1, nn.LeakyReLU(0.2))
        self.conv2 = nn.Sequential(nn.Conv2d(64, 128, 1, bias=False), self.bn2, nn.LeakyReLU(0.2))
        self.conv3 = nn.Sequential(nn.Conv1d(128, 1024, 1, bias=False), self.bn3, nn.LeakyReLU(0.2))
        self.linear1, self.bn3 = nn.Linear(1024, 512, bias=False), nn.BatchNorm1d(512)
        self.linear2, self.bn4 = nn.Linear(512, 256, bias=False), nn.BatchNorm1d(256)
        self.transform = nn.Linear(256, 9)

    def forward(self, clouds: Sequence[Tensor], tables: Sequence[Tensor]) -> Tensor:
        """(B, 3, 3) matrices."""
        h = _flat(_edges(clouds, tables, (self.conv1, self.conv2)), self.conv3)
        x = torch.stack([one.max(0).values for one in h])
        x = leaky_relu(self.bn3(self.linear1(x)), 0.2)
        x = leaky_relu(self.bn4(self.linear2(x)), 0.2)
        return self.transform(x).view(-1, 3, 3)


def _edges(clouds: Sequence[Tensor], tables: Sequence[Tensor], convs: Sequence[nn.Module]) -> list[Tensor]:
    """Convolutions of the explicit edges of all clouds, and the maximum over the neighbours."""
    k, edges = tables[0].shape[1], []
    for x, neighbors in zip(clouds, tables, strict=True):
        center = x[:, None].expand(-1, k, -1)
        edges.append(torch.cat([x[neighbors] - center, center], 2))
    h = torch.cat(edges).permute(2, 0, 1)[None]
    for conv in convs:
        h = conv(h)
    return list(h.max(3).values[0].t().split([len(x) for x in clouds]))


def _flat(clouds: Sequence[Tensor], conv: nn.Module) -> list[Tensor]:
    return list(conv(torch.cat(list(clouds)).t()[None])[0].t().split([len(x) for x in clouds]))
