"""EdgeConv with one linear layer, computed per point instead of per edge."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from geo3d.nn.linear import linear
from geo3d.nn.norm import BatchNorm
from geo3d.ops.edge.conv import (
    center_and_neighbor_weights,
    edge_conv,
    edge_conv_fixed,
    edge_conv_given,
    edge_conv_reference,
)
from geo3d.ops.edge.gather import gather_max
from geo3d.ops.edge.join import edge_join
from geo3d.ops.native import runs

COORDINATES = 9
"""Inputs of up to this many channels are positions, normals and colours, not features."""


class EdgeConv(nn.Module):
    """(M, out_channels): ``max_j LeakyReLU(BatchNorm(W [x_j - x_i ; x_i]))`` over the neighbours j of each point i.

    The layer of DGCNN (arXiv 1801.07829). As ``W [x_j - x_i ; x_i] = a_i + b_j`` with ``b = Wd x``, ``a = (Wc - Wd) x``
    and ``W = [Wd | Wc]``, two products per point replace one per edge. The norm and the activation are monotone in each
    channel, so only the largest b_j is needed (the smallest where the norm's weight is negative). This is exact, in
    training too: batch statistics and gradients are those over all M * k edges.

    Compressed forms (see :class:`geo3d.nn.linear.Linear`) act on points, not on edges. A structured layer pools the
    channels of its input once per point, which equals pooling both halves of each edge. A quantised layer rounds the
    input, the two halves of the weight and b, each with its own steps, but not a. It computes ``a = Wc x - b`` from the
    rounded halves and b before b itself is rounded, so that the error of Wd acts on differences only. Rounding is
    monotone, so it commutes with the maximum; the gradient goes to the neighbour that is the largest before rounding.
    The batch statistics are those of the rounded edges.

    Args:
        in_channels: C of the input.
        out_channels: C of the output.
        negative_slope: Slope of the LeakyReLU, from 0 (ReLU) to 1.
        sync: Take the batch statistics over the edges of all processes.

    Attributes:
        linear: Weight (out_channels, 2 * in_channels) in the published column order.
        norm: The BatchNorm over edges.
        neighbor_quantizer: Rounds b, the neighbours' part of the sum; None leaves b as it is.
    """

    def __init__(self, in_channels: int, out_channels: int, negative_slope: float = 0.2, sync: bool = True) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.negative_slope = negative_slope
        self.linear = linear(2 * in_channels, out_channels)
        self.norm = BatchNorm(out_channels, sync=sync)
        self.neighbor_quantizer: Any = None

    def forward(self, x: Tensor, neighbors: Tensor) -> Tensor:
        """(M, out_channels) features.

        Args:
            x: (M, in_channels) features.
            neighbors: (M, k) flat indices of the neighbours.
        """
        x = self.linear.inputs(x)
        if self.linear.quantizer is not None or self.neighbor_quantizer is not None:
            return self._rounded(x, neighbors)
        norm, weight = self.norm, self.linear.masked()
        compiled = runs(x, weight)  # these kernels use single precision, and are faster than torch in half precision
        # Neighbours differ in the last digits of their coordinates, so coordinates are never multiplied in half.
        half = torch.is_autocast_enabled(x.device.type) and x.shape[1] > COORDINATES and not compiled
        with torch.autocast(x.device.type, enabled=half):
            if norm.training or norm.running_mean is None or norm.running_var is None:
                arguments = (x, weight, norm.weight, norm.bias, neighbors, norm.eps, self.negative_slope)
                out, mean, var, count = (
                    edge_conv(*arguments, norm.shared) if compiled else edge_conv_reference(*arguments, norm.joined)
                )
                if norm.training:
                    norm.update(mean, var, count if norm.shared else float(neighbors.numel()))
                return out
            scale, shift = norm.folded()
            function = edge_conv_fixed if compiled and not torch.is_grad_enabled() else edge_conv_given
            return function(x, weight, scale, shift, neighbors, self.negative_slope)

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(M, 2 * out_channels) ``[a | b]`` from pooled and rounded inputs, and (out_channels,) signs folded into it.

        The signs are those of the norm's weight; see :func:`geo3d.ops.edge.conv.center_and_neighbor_weights`.
        """
        both, sign = center_and_neighbor_weights(self.linear.masked(), self.norm.weight)
        if self.linear.quantizer is not None:
            both = self.linear.quantizer(both)
        of_center, b = F.linear(x, both).chunk(2, 1)
        return torch.cat([of_center - b, b], 1), sign

    def _rounded(self, x: Tensor, neighbors: Tensor) -> Tensor:
        norm = self.norm
        with torch.autocast(x.device.type, enabled=False):  # quantisation steps are finer than half precision
            ab, sign = self.parts(x.to(norm.weight.dtype))
            exact = None
            if self.neighbor_quantizer is not None:
                a, exact = ab.chunk(2, 1)
                ab = torch.cat([a, self.neighbor_quantizer(exact)], 1)
            gamma = norm.weight * sign
            if norm.training or norm.running_mean is None or norm.running_var is None:
                out, mean, var, count = edge_join(
                    ab, exact, gamma, norm.bias, neighbors, norm.eps, self.negative_slope, norm.shared
                )
                if norm.training:
                    norm.update(mean * sign.detach(), var, count if norm.shared else float(neighbors.numel()))
                return out
            scale = gamma * torch.rsqrt(norm.running_var + norm.eps)
            a, b = ab.chunk(2, 1)
            top = a + gather_max(b.contiguous(), neighbors)
            return leaky_relu(
                torch.addcmul(norm.bias - norm.running_mean * sign * scale, top, scale), self.negative_slope
            )
