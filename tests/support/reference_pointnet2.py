"""PointNet++ in its plain published form, as the tests' reference.

The layers, their names and the column orders are those of the widely used PyTorch code (Pointnet_Pointnet2_pytorch,
``pointnet2_cls_ssg`` and ``pointnet2_cls_msg``); sampling starts at point 0 instead of a random point. Clouds come as
a list of (N, 3 + C) tensors, so that BatchNorm sees the neighbourhoods of all clouds together whatever their sizes.
"""

import torch
import torch.nn.functional as F
from torch import nn


def farthest(pos, count):
    count = min(count, len(pos))
    picks, best = [0], torch.full((len(pos),), torch.inf, dtype=pos.dtype)
    for _ in range(count - 1):
        best = torch.minimum(best, (pos - pos[picks[-1]]).square().sum(1))
        picks.append(int(best.argmax()))
    return torch.tensor(picks)


def ball(pos, centers, radius, k):
    rows = []
    for center in centers:
        inside = ((pos - center).square().sum(1) <= radius**2).nonzero()[:k, 0]
        rows.append(torch.cat([inside, inside[:1].expand(k - len(inside))]))
    return torch.stack(rows)


def run(convs, norms, edges):
    """Maximum over each neighbourhood after the layers, from edges (S, K, C) per cloud; BatchNorm sees all clouds."""
    shapes = [e.shape[:2] for e in edges]
    x = torch.cat([e.flatten(0, 1) for e in edges]).t()[None, :, :, None]
    for conv, norm in zip(convs, norms, strict=True):
        x = F.relu(norm(conv(x)))
    parts = x[0, :, :, 0].t().split([s * k for s, k in shapes])
    return [part.view(s, k, -1).max(1).values for part, (s, k) in zip(parts, shapes, strict=True)]


def stack(sizes):
    pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
    return nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairs), nn.ModuleList(nn.BatchNorm2d(b) for _, b in pairs)


class Single(nn.Module):
    def __init__(self, samples, radius, k, in_channels, sizes):
        super().__init__()
        self.samples, self.radius, self.k = samples, radius, k
        self.mlp_convs, self.mlp_bns = stack([in_channels, *sizes])

    def forward(self, positions, features):
        if self.samples is None:  # one group of all points, not centred
            edges = [torch.cat([p, f], 1)[None] for p, f in zip(positions, features, strict=True)]
            return positions, run(self.mlp_convs, self.mlp_bns, edges)
        centers, edges = [], []
        for p, f in zip(positions, features, strict=True):
            c = p[farthest(p, self.samples)]
            neighbors = ball(p, c, self.radius, self.k)
            edges.append(torch.cat([p[neighbors] - c[:, None], f[neighbors]], 2))
            centers.append(c)
        return centers, run(self.mlp_convs, self.mlp_bns, edges)


class Multi(nn.Module):
    def __init__(self, samples, radii, ks, in_channels, sizes):
        super().__init__()
        self.samples, self.radii, self.ks = samples, radii, ks
        pairs = [stack([in_channels + 3, *one]) for one in sizes]
        self.conv_blocks = nn.ModuleList(convs for convs, _ in pairs)
        self.bn_blocks = nn.ModuleList(norms for _, norms in pairs)

    def forward(self, positions, features):
        centers = [p[farthest(p, self.samples)] for p in positions]
        outs = []
        for radius, k, convs, norms in zip(self.radii, self.ks, self.conv_blocks, self.bn_blocks, strict=True):
            edges = []
            for p, f, c in zip(positions, features, centers, strict=True):
                neighbors = ball(p, c, radius, k)
                edges.append(torch.cat([f[neighbors], p[neighbors] - c[:, None]], 2))
            outs.append(run(convs, norms, edges))
        return centers, [torch.cat(parts, 1) for parts in zip(*outs, strict=True)]


class PublishedPointNet2(nn.Module):
    """The classifier; ``samples`` and ``sizes`` can be made small for tests."""

    def __init__(self, scales, classes=40, in_channels=3, samples=(512, 128), sizes=None):
        super().__init__()
        extra = in_channels - 3
        if scales == "ssg":
            one, two, last = sizes or ([64, 64, 128], [128, 128, 256], [256, 512, 1024])
            self.sa1 = Single(samples[0], 0.2, 32, in_channels, one)
            self.sa2 = Single(samples[1], 0.4, 64, one[-1] + 3, two)
            out = two[-1]
        else:
            one, two, last = sizes or (
                [[32, 32, 64], [64, 64, 128], [64, 96, 128]],
                [[64, 64, 128], [128, 128, 256], [128, 128, 256]],
                [256, 512, 1024],
            )
            self.sa1 = Multi(samples[0], [0.1, 0.2, 0.4], [16, 32, 128], extra, one)
            self.sa2 = Multi(samples[1], [0.2, 0.4, 0.8], [32, 64, 128], sum(s[-1] for s in one), two)
            out = sum(s[-1] for s in two)
        self.sa3 = Single(None, None, None, out + 3, last)
        self.fc1, self.bn1 = nn.Linear(last[-1], 512), nn.BatchNorm1d(512)
        self.fc2, self.bn2 = nn.Linear(512, 256), nn.BatchNorm1d(256)
        self.fc3 = nn.Linear(256, classes)

    def encode(self, clouds):
        """(B, C) cloud features, and the features of the second level interpolated to all points."""
        positions, features = [c[:, :3] for c in clouds], [c[:, 3:] for c in clouds]
        one, f_one = self.sa1(positions, features)
        two, f_two = self.sa2(one, f_one)
        _, out = self.sa3(two, f_two)
        points = []
        for p, c, f in zip(positions, two, f_two, strict=True):
            near = torch.cdist(p, c, compute_mode="donot_use_mm_for_euclid_dist").square().sort(1)
            weight = 1 / (near.values[:, :3] + 1e-8)
            points.append((f[near.indices[:, :3]] * (weight / weight.sum(1, keepdim=True))[..., None]).sum(1))
        return torch.cat(out), torch.cat(points)


class Propagation(nn.Module):
    """From the coarse level to the fine one: three neighbours, weighted by the inverse squared distance."""

    def __init__(self, in_channels, sizes):
        super().__init__()
        pairs = list(zip([in_channels, *sizes[:-1]], sizes, strict=True))
        self.mlp_convs = nn.ModuleList(nn.Conv1d(a, b, 1) for a, b in pairs)
        self.mlp_bns = nn.ModuleList(nn.BatchNorm1d(b) for _, b in pairs)

    def forward(self, fine, coarse, skip, features):
        rows = []
        for i, (p, c, f) in enumerate(zip(fine, coarse, features, strict=True)):
            near = torch.cdist(p, c, compute_mode="donot_use_mm_for_euclid_dist").square().sort(1)
            weight = 1 / (near.values[:, :3] + 1e-8)
            up = (f[near.indices[:, :3]] * (weight / weight.sum(1, keepdim=True))[..., None]).sum(1)
            rows.append(up if skip is None else torch.cat([skip[i], up], 1))
        x = torch.cat(rows).t()[None]
        for conv, norm in zip(self.mlp_convs, self.mlp_bns, strict=True):
            x = F.relu(norm(conv(x)))
        return list(x[0].t().split([len(p) for p in fine]))


class PublishedScene(nn.Module):
    """The scene networks with 9 inputs; the features of the points repeat their coordinates."""

    def __init__(self, scales, classes=13, samples=(1024, 256, 64, 16)):
        super().__init__()
        if scales == "ssg":
            sizes = ([32, 32, 64], [64, 64, 128], [128, 128, 256], [256, 256, 512])
            inner = [12, 67, 131, 259]
            levels = [Single(*each) for each in zip(samples, (0.1, 0.2, 0.4, 0.8), [32] * 4, inner, sizes, strict=True)]
            joined, steps = [768, 384, 320, 128], ([256, 256], [256, 256], [256, 128], [128, 128, 128])
        else:
            radii = ([0.05, 0.1], [0.1, 0.2], [0.2, 0.4], [0.4, 0.8])
            sizes = (
                [[16, 16, 32], [32, 32, 64]],
                [[64, 64, 128], [64, 96, 128]],
                [[128, 196, 256], [128, 196, 256]],
                [[256, 256, 512], [256, 384, 512]],
            )
            inner = [9, 96, 256, 512]
            levels = [Multi(*each) for each in zip(samples, radii, [[16, 32]] * 4, inner, sizes, strict=True)]
            joined, steps = [1536, 512, 352, 128], ([256, 256], [256, 256], [256, 128], [128, 128, 128])
        self.sa1, self.sa2, self.sa3, self.sa4 = levels
        self.fp4, self.fp3, self.fp2, self.fp1 = (Propagation(*each) for each in zip(joined, steps, strict=True))
        self.conv1, self.bn1, self.conv2 = nn.Conv1d(128, 128, 1), nn.BatchNorm1d(128), nn.Conv1d(128, classes, 1)

    def forward(self, clouds):
        """(M, classes) logits of a list of (N, 9) clouds, in evaluation."""
        levels = [([c[:, :3] for c in clouds], list(clouds))]
        for level in (self.sa1, self.sa2, self.sa3, self.sa4):
            levels.append(level(*levels[-1]))
        x = levels[-1][1]
        for i, step in zip((3, 2, 1, 0), (self.fp4, self.fp3, self.fp2, self.fp1), strict=True):
            x = step(levels[i][0], levels[i + 1][0], levels[i][1] if i else None, x)
        x = F.relu(self.bn1(self.conv1(torch.cat(x).t()[None])))
        return self.conv2(x)[0].t()


class PublishedParts(nn.Module):
    """The part networks; the last step reads the category, the coordinates, and the inputs, which repeat them."""

    def __init__(self, scales, classes=50, inputs=3, samples=(512, 128), categories=16):
        super().__init__()
        self.categories = categories
        if scales == "ssg":
            self.sa1 = Single(samples[0], 0.2, 32, 3 + inputs, [64, 64, 128])
            self.sa2 = Single(samples[1], 0.4, 64, 131, [128, 128, 256])
            joined, last = [1280, 384], [128, 128, 128]
        else:
            fine, coarse = [[32, 32, 64], [64, 64, 128], [64, 96, 128]], [[128, 128, 256], [128, 196, 256]]
            self.sa1 = Multi(samples[0], [0.1, 0.2, 0.4], [32, 64, 128], inputs, fine)
            self.sa2 = Multi(samples[1], [0.4, 0.8], [64, 128], 320, coarse)
            joined, last = [1536, 576], [128, 128]
        self.sa3 = Single(None, None, None, 3 + joined[0] - 1024, [256, 512, 1024])
        self.fp3, self.fp2 = Propagation(joined[0], [256, 256]), Propagation(joined[1], [256, 128])
        self.fp1 = Propagation(categories + 3 + inputs + 128, last)
        self.conv1, self.bn1, self.conv2 = nn.Conv1d(128, 128, 1), nn.BatchNorm1d(128), nn.Conv1d(128, classes, 1)

    def forward(self, clouds, category):
        """(M, classes) logits of a list of (N, inputs) clouds and the category of each, without dropout."""
        positions = [c[:, :3] for c in clouds]
        one, f_one = self.sa1(positions, clouds)
        two, f_two = self.sa2(one, f_one)
        _, whole = self.sa3(two, f_two)
        x = self.fp3(two, [p[:1] for p in two], f_two, whole)  # the whole cloud is one centre, wherever it lies
        x = self.fp2(one, two, f_one, x)
        told = [
            F.one_hot(torch.tensor(k), self.categories).to(c).expand(len(c), -1)
            for k, c in zip(category, clouds, strict=True)
        ]
        own = [torch.cat(parts, 1) for parts in zip(told, positions, clouds, strict=True)]
        x = self.fp1(positions, one, own, x)
        x = F.relu(self.bn1(self.conv1(torch.cat(x).t()[None])))
        return self.conv2(x)[0].t()
