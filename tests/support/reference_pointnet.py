"""PointNet in its plain published form, as the tests' reference.

The layers and their names are those of the widely used PyTorch code (Pointnet_Pointnet2_pytorch, ``pointnet_utils``
and ``pointnet_cls``). Clouds come as a list of (N, C) tensors, so that BatchNorm sees the points of all clouds
together whatever their sizes.
"""

import torch
import torch.nn.functional as F
from torch import nn


def on_all(layer, clouds):
    """Outputs per cloud of a layer (a convolution of width 1 or a norm) that sees the points of all clouds together."""
    out = layer(torch.cat(clouds).t()[None])[0].t()
    return list(out.split([len(c) for c in clouds]))


class Stn(nn.Module):
    def __init__(self, in_channels, size):
        super().__init__()
        self.size = size
        self.conv1, self.conv2 = nn.Conv1d(in_channels, 64, 1), nn.Conv1d(64, 128, 1)
        self.conv3 = nn.Conv1d(128, 1024, 1)
        self.fc1, self.fc2, self.fc3 = nn.Linear(1024, 512), nn.Linear(512, 256), nn.Linear(256, size * size)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(64), nn.BatchNorm1d(128), nn.BatchNorm1d(1024)
        self.bn4, self.bn5 = nn.BatchNorm1d(512), nn.BatchNorm1d(256)

    def forward(self, clouds):
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            clouds = [F.relu(c) for c in on_all(norm, on_all(conv, clouds))]
        x = torch.stack([c.max(0).values for c in clouds])
        x = F.relu(self.bn4(self.fc1(x)))
        x = self.fc3(F.relu(self.bn5(self.fc2(x))))
        return (x + torch.eye(self.size, dtype=x.dtype).flatten()).view(-1, self.size, self.size)


class Feat(nn.Module):
    def __init__(self, in_channels, feature_transform):
        super().__init__()
        self.stn = Stn(in_channels, 3)
        self.conv1, self.conv2 = nn.Conv1d(in_channels, 64, 1), nn.Conv1d(64, 128, 1)
        self.conv3 = nn.Conv1d(128, 1024, 1)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm1d(64), nn.BatchNorm1d(128), nn.BatchNorm1d(1024)
        self.fstn = Stn(64, 64) if feature_transform else None

    def forward(self, clouds):
        turned = [c[:, :3] @ t for c, t in zip(clouds, self.stn(clouds), strict=True)]
        clouds = [torch.cat([t, c[:, 3:]], 1) for t, c in zip(turned, clouds, strict=True)]
        local = [F.relu(c) for c in on_all(self.bn1, on_all(self.conv1, clouds))]
        if self.fstn is not None:
            local = [c @ t for c, t in zip(local, self.fstn(local), strict=True)]
        x = [F.relu(c) for c in on_all(self.bn2, on_all(self.conv2, local))]
        x = on_all(self.bn3, on_all(self.conv3, x))
        return torch.stack([c.max(0).values for c in x]), torch.cat(local)


class PublishedPointNet(nn.Module):
    """The classifier."""

    def __init__(self, classes=40, in_channels=3, feature_transform=True):
        super().__init__()
        self.feat = Feat(in_channels, feature_transform)
        self.fc1, self.fc2, self.fc3 = nn.Linear(1024, 512), nn.Linear(512, 256), nn.Linear(256, classes)
        self.bn1, self.bn2 = nn.BatchNorm1d(512), nn.BatchNorm1d(256)
