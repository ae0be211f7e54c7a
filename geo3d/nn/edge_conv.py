"""EdgeConv with one linear layer, computed per point instead of per edge."""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from geo3d.nn.linear import linear
from geo3d.nn.norm import BatchNorm
from geo3d.ops.edge import edge_moments, gather_max

COORDINATES = 9
"""Inputs of at most so many channels are positions, normals and colours, not features."""


class EdgeConv(nn.Module):
    """(M, out_channels): ``max_j LeakyReLU(BatchNorm(W [x_j - x_i ; x_i]))`` over the neighbours j of each point i.

    The layer of DGCNN (arXiv 1801.07829). As ``W [x_j - x_i ; x_i] = a_i + b_j`` with ``b = Wd x``, ``a = (Wc - Wd) x``
    and ``W = [Wd | Wc]``, two products per point replace one per edge, and as the norm and the activation are monotone
    in each channel, only the largest b_j is needed (of -b_j where the norm's weight is negative). This is exact, in
    training too: batch statistics and gradients are those over all M * k edges.

    Args:
        in_channels: C of the input.
        out_channels: C of the output.
        negative_slope: Of the LeakyReLU; from 0 (ReLU) to 1.
        sync: Take the batch statistics over the edges of all processes.

    Attributes:
        linear: Weight (out_channels, 2 * in_channels) in the published column order.
        norm: The BatchNorm over edges.
    """

    def __init__(self, in_channels: int, out_channels: int, negative_slope: float = 0.2, sync: bool = True) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.negative_slope = negative_slope
        self.linear = linear(2 * in_channels, out_channels)
        self.norm = BatchNorm(out_channels, sync=sync)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """(M, out_channels) features.

        Args:
            x: (M, in_channels) features.
            table: (M, k) flat indices of the neighbours.
        """
        norm = self.norm
        # Rows with a negative scale change sign, so that the largest value is wanted everywhere.
        sign = torch.where(norm.weight.detach() < 0, -1.0, 1.0).to(norm.weight.dtype)
        difference, center = (self.linear.weight * sign[:, None]).chunk(2, 1)
        # Neighbours differ in the last digits of their coordinates: those are multiplied in full precision.
        half = torch.is_autocast_enabled(x.device.type) and x.shape[1] > COORDINATES
        with torch.autocast(x.device.type, enabled=half):
            a = nn.functional.linear(x, center - difference)
            b = nn.functional.linear(x, difference)
        a, b = a.to(norm.weight.dtype), b.to(norm.weight.dtype)  # half precision ends with the products
        if norm.training or norm.running_mean is None or norm.running_var is None:
            mean, var, count = edge_moments(a, b, table, norm.joined)
            if norm.training:
                norm.update(mean * sign, var, count if norm.shared else float(table.numel()))
        else:
            mean, var = norm.running_mean * sign, norm.running_var
        scale = norm.weight * sign * torch.rsqrt(var + norm.eps)
        return leaky_relu(torch.addcmul(norm.bias - mean * scale, a + gather_max(b, table), scale), self.negative_slope)
