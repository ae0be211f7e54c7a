"""Joints of a hand by votes of its points (Point-to-Point, ECCV 2018)."""

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geo3d.checks import Range, Size, checked
from geo3d.cloud import Features, Layout
from geo3d.heads.cloud import Width
from geo3d.heads.joints import Estimate, Number, anchors_of
from geo3d.nn.linear import linear
from geo3d.nn.norm import BatchNorm


class JointVoter(nn.Module):
    """One estimate of all joints: each point says how far away each joint is, and how much that counts.

    joint = sum over points i of w_i (p_i + o_i), with w the softmax of the points' heat for the joint. The points are
    those of the encoder's first level. The spread of the votes, times a learned factor, is the uncertainty.

    Args:
        in_channels: Channels of the encoder's cloud features.
        anchor_channels: Channels of the features of the points that vote.
        num_joints: J, the number of joints.
        hidden: Channels of the hidden layer.
    """

    @checked
    def __init__(
        self,
        in_channels: Width,
        anchor_channels: Annotated[int, Range(1, 1_000_000)],
        num_joints: Number = 21,
        hidden: Size = 256,
    ) -> None:
        super().__init__()
        self.in_channels, self.anchor_channels = in_channels, anchor_channels
        self.num_joints, self.hidden = num_joints, hidden
        self.of_cloud = linear(in_channels, hidden, bias=True)
        self.of_point = linear(anchor_channels + 3, hidden, bias=False)
        self.norm = BatchNorm(hidden)
        self.votes = linear(hidden, 4 * num_joints, bias=True)
        self.factor = nn.Parameter(torch.zeros(num_joints))

    def forward(self, features: Features) -> list[Estimate]:
        """One estimate."""
        points = anchors_of(features)
        sizes = points.layout.ptr.diff()
        cloud = self.of_cloud(features.cloud).repeat_interleave(sizes, 0, output_size=len(points.pos))
        x = F.leaky_relu(self.norm(self.of_point(torch.cat([points.pos, points.x], 1)) + cloud), 0.2)
        heat, offset = self.votes(x).unflatten(1, (self.num_joints, 4)).split([1, 3], 2)
        weight = softmax_over_clouds(heat[..., 0], points.layout)
        votes = points.pos[:, None] + offset
        joints = sum_over_clouds(weight[..., None] * votes, points.layout)
        away = (votes - joints.repeat_interleave(sizes, 0, output_size=len(votes))).detach()
        spread = sum_over_clouds(weight.detach() * away.square().mean(2), points.layout)
        return [Estimate(joints, (0.5 * (spread + 1e-6).log() + self.factor).clamp(-8, 2))]


def softmax_over_clouds(x: Tensor, layout: Layout) -> Tensor:
    """(M, C) numbers above 0 whose sum over the points of each cloud is 1, for each channel.

    Example:
        >>> softmax_over_clouds(torch.zeros(3, 1), Layout(torch.tensor([0, 1, 3])))[:, 0].tolist()
        [1.0, 0.5, 0.5]
    """
    if layout.size is not None:
        return x.view(-1, layout.size, x.shape[1]).softmax(1).view(x.shape)
    sizes = layout.ptr.diff()
    largest = torch.segment_reduce(x.detach(), "max", offsets=layout.ptr)
    e = (x - largest.repeat_interleave(sizes, 0, output_size=len(x))).exp()
    return e / sum_over_clouds(e, layout).repeat_interleave(sizes, 0, output_size=len(x))


def sum_over_clouds(x: Tensor, layout: Layout) -> Tensor:
    """(B, ...) sums of the rows (M, ...) of each cloud."""
    if layout.size is not None:
        return x.view(-1, layout.size, *x.shape[1:]).sum(1)
    clouds = len(layout.ptr) - 1
    cloud = torch.arange(clouds, device=x.device).repeat_interleave(layout.ptr.diff(), output_size=len(x))
    return x.new_zeros(clouds, *x.shape[1:]).index_add(0, cloud, x)
