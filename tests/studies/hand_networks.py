"""Two published networks for hand poses, after their notes: the rivals of geo3d's own, in their fastest form here.

Both read clouds (B, N, 6) of coordinates and normals in an oriented box, in a random order. The neighbours of a centre
are the ``k`` nearest points; those outside of a ball are replaced. The layers on neighbours run on geo3d's compiled
kernels, which give the same values as the published form and take a fraction of its time.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from geo3d.cloud import Layout
from geo3d.nn.set_abstraction import PooledMLP
from geo3d.ops.dense.grouped import Rows
from geo3d.ops.search.knn import knn, knn_query

JOINTS, CENTERS, K = 21, (512, 128), 64
BALLS, JOINT_BALL = (0.015, 0.04), 0.16
"""Squared radii: of the two levels, and around joints."""


def layout(clouds: int, points: int) -> Layout:
    """That of equally large clouds."""
    return Layout(torch.arange(clouds + 1) * points, points)


def pooled(mlp: PooledMLP, rows: Rows) -> Tensor:
    """(G, C) from the edges of G groups: compiled where that is possible, else row by row."""
    assert rows.neighbors is not None and rows.centers is not None and rows.pos is not None
    if mlp.runs_compiled(rows.features, rows.pos, rows.own):
        if not rows.centers.requires_grad:
            return mlp.grouped(rows, rows.neighbors.numel())
        # The compiled offsets have no gradient. W (p - c) is W p - W c, and the second part belongs to the centre.
        weight, own = mlp.first.matrix(), torch.cat([rows.centers, *([] if rows.own is None else [rows.own])], 1)
        columns = weight.shape[1] - own.shape[1] + 3
        first = torch.cat([weight[:, :columns], -weight[:, :3], weight[:, columns:]], 1)
        rows = rows._replace(centers=torch.zeros_like(rows.centers), own=own)
        return mlp.grouped(rows, rows.neighbors.numel(), first)
    groups, k = rows.neighbors.shape
    parts = [rows.pos[rows.neighbors] - rows.centers[:, None]]
    parts += [] if rows.features is None else [rows.features[rows.neighbors]]
    parts += [] if rows.own is None else [rows.own[:, None].expand(-1, k, -1)]
    return mlp(torch.cat(parts, 2).flatten(0, 1), layout(groups, k))


def near(pos: Tensor, points: Layout, centers: Tensor, groups: Layout, squared: float, other: Tensor) -> Tensor:
    """(G, K) the points nearest to each centre, nearest first; those outside of the ball are replaced by ``other``."""
    nearest = knn_query(pos, points, centers, groups, K)
    outside = (pos[nearest] - centers[:, None]).square().sum(2) > squared
    return torch.where(outside, other[:, None], nearest)


class Levels(nn.Module):
    """The hierarchical PointNet of both networks: two levels on the first 512 and 128 points, and a global one."""

    def __init__(self, channels: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        sizes = [[6, *channels[0]], [3 + channels[0][-1], *channels[1]], [3 + channels[1][-1], *channels[2]]]
        self.mlps = nn.ModuleList(PooledMLP(size, skip=3) for size in sizes)

    def forward(self, clouds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 512, 3) centres and (B, 512, C) features of the first level, and (B, C') of the cloud."""
        count, points = clouds.shape[:2]
        pos, x = clouds[..., :3].reshape(-1, 3), clouds[..., 3:].reshape(-1, 3)
        levels = []
        for mlp, wanted, squared in zip(self.mlps, CENTERS, BALLS, strict=False):
            first = (torch.arange(count)[:, None] * points + torch.arange(wanted)).flatten()
            centers = pos[first]
            neighbors = near(pos, layout(count, points), centers, layout(count, wanted), squared, first)
            inside = (neighbors != first[:, None]).sum(1) + 1  # the centre is its own first neighbour
            x = pooled(mlp, Rows(x, pos, centers, neighbors, inside, None))
            pos, points = centers, wanted
            levels.append((pos.view(count, wanted, 3), x.view(count, wanted, -1)))
        cloud = self.mlps[2](torch.cat([pos, x], 1), layout(count, points))
        return *levels[0], cloud


def dense(*channels: int) -> list[nn.Module]:
    """Linear, BatchNorm and ReLU for each step of ``channels``."""
    layers: list[nn.Module] = []
    for inner, outer in zip(channels[:-1], channels[1:], strict=True):
        layers += [nn.Linear(inner, outer), nn.BatchNorm1d(outer), nn.ReLU()]
    return layers


class HandPointNet(nn.Module):
    """Joints from 42 principal components of the training joints (CVPR 2018); 2,406,954 parameters.

    Args:
        joints: (F, 21, 3) training joints in the boxes, of which the components are taken; at least 42.
    """

    def __init__(self, joints: Tensor, components: int = 42) -> None:
        super().__init__()
        self.levels = Levels(((64, 64, 128), (128, 128, 256), (256, 512, 1024)))
        self.last = nn.Sequential(*dense(1024, 1024, 512), nn.Linear(512, components))
        flat = joints.flatten(1)
        _, _, right = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
        self.register_buffer("mean", flat.mean(0))
        self.register_buffer("basis", right[:components])

    def forward(self, clouds: Tensor) -> Tensor:
        """(B, 42) coefficients."""
        return self.last(self.levels(clouds)[2])

    def joints(self, clouds: Tensor) -> Tensor:
        """(B, 21, 3)"""
        return (self.mean + self(clouds) @ self.basis).unflatten(1, (JOINTS, 3))

    def loss(self, clouds: Tensor, joints: Tensor) -> Tensor:
        """The mean squared error of the coefficients, times their number."""
        truth = (joints.flatten(1) - self.mean) @ self.basis.mT
        return len(self.basis) * (self(clouds) - truth).square().mean()


SKELETON = torch.tensor(
    [
        [0, -15, -15, -15, -15, 0, 0, 0, 0, 17.5, 17.5, 17.5, 17.5, 30, 30, 30, 30, -12, -12, -12, -12],
        [0, 26, 40, 50, 60, 33, 49, 59, 69, 30, 45, 55, 65, 17.5, 27.5, 35, 42.5, 7, 20, 30, 40],
    ]
) / 100  # fmt: skip
"""(2, 21) the plane hand that is folded; its joints: wrist, then four of index, middle, ring, little finger, thumb."""
BEFORE = [
    17,
    *(joint if bone else 0 for first in (1, 5, 9, 13, 17) for bone, joint in enumerate(range(first - 1, first + 3))),
]
AFTER = [13, *(min(joint + 1, first + 3) for first in (1, 5, 9, 13, 17) for joint in range(first, first + 4))]
"""The two joints beside each on its finger, as published; of the wrist the first ones of thumb and little finger."""
ORDER = [0, 17, 18, 19, 20, *range(1, 17)]
"""For each joint of geo3d (wrist, thumb, index, ...) its place in the order of the network."""


class Fold(nn.Module):
    """A local fold: the 64 points around each joint, with the features of the joint and of those beside it."""

    def __init__(self, of_joint: int, of_point: int) -> None:
        super().__init__()
        self.near = PooledMLP([3 + of_point + 3 + 3 * of_joint, 256, 256, 256], skip=3)
        self.step = nn.Sequential(*dense(256, 256, 256), nn.Linear(256, 3))

    def forward(self, joints: Tensor, x: Tensor, pos: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Joints (B, 21, 3) that have moved, and their features (B, 21, 256).

        Args:
            joints: (B, 21, 3)
            x: (B, 21, C) their features.
            pos: (B, S, 3) points.
            features: (B, S, C') their features.
        """
        count, points = pos.shape[:2]
        own = torch.cat([joints, x, x[:, BEFORE], x[:, AFTER]], 2).flatten(0, 1)
        centers = joints.detach().flatten(0, 1)
        # Published: outside of the ball the neighbour of joint j is point j.
        other = (torch.arange(count)[:, None] * points + torch.arange(JOINTS)).flatten()
        neighbors = near(pos.flatten(0, 1), layout(count, points), centers, layout(count, JOINTS), JOINT_BALL, other)
        full = torch.full((len(neighbors),), K)
        rows = Rows(features.flatten(0, 1), pos.flatten(0, 1), joints.flatten(0, 1), neighbors, full, own)
        features_of_joints = pooled(self.near, rows)
        moved = joints + self.step(features_of_joints).view_as(joints)
        return moved, features_of_joints.view(count, JOINTS, -1)


class HandFoldingNet(nn.Module):
    """A plane hand folded to the joints, then two local folds (ICCV 2021); 1,282,505 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = Levels(((32, 32, 128), (64, 64, 256), (128, 128, 512)))
        self.unfolded = nn.Sequential(*dense(2 + 512, 256, 256, 128))
        self.first = nn.Linear(128, 3)
        self.folds = nn.ModuleList([Fold(128, 128), Fold(256, 128)])

    def forward(self, clouds: Tensor) -> list[Tensor]:
        """The joints (B, 21, 3) after each fold, in the order of geo3d."""
        pos, features, code = self.levels(clouds)
        plane = SKELETON.mT.expand(len(code), JOINTS, 2)
        x = self.unfolded(torch.cat([plane, code[:, None].expand(-1, JOINTS, -1)], 2).flatten(0, 1))
        joints = [self.first(x).view(-1, JOINTS, 3)]
        x = x.view(-1, JOINTS, x.shape[1])
        for fold in self.folds:
            moved, x = fold(joints[-1], x, pos, features)
            joints.append(moved)
        return [each[:, ORDER] for each in joints]

    def joints(self, clouds: Tensor) -> Tensor:
        """(B, 21, 3)"""
        return self(clouds)[-1]

    def loss(self, clouds: Tensor, joints: Tensor) -> Tensor:
        """``63 (2 L(last) + L(second) + L(first))``, L the sum of smooth absolute errors (sigma 10) of a cloud."""
        weights = (1.0, 1.0, 2.0)
        folds = zip(weights, self(clouds), strict=True)
        total = sum(w * smooth_l1_loss(each, joints, beta=0.01, reduction="sum") for w, each in folds)
        return 63 * total / len(clouds)


def toward_sensor(pos: Tensor, sensor: Tensor, k: int = 30) -> Tensor:
    """(B, N, 3) unit normals of the plane through the ``k`` nearest points of each, on the side of the sensor.

    Args:
        pos: (B, N, 3)
        sensor: (B, 3) its place in the same coordinates.
        k: Points of a plane.
    """
    flat = pos.flatten(0, 1)
    around = flat[knn(flat, layout(*pos.shape[:2]), k)]
    around = around - around.mean(1, keepdim=True)
    normal = torch.linalg.eigh(around.mT @ around).eigenvectors[:, :, 0].view_as(pos)
    away = ((sensor[:, None] - pos) * normal).sum(2, keepdim=True) < 0
    return torch.where(away, -normal, normal)
