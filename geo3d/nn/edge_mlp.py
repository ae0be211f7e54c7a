"""EdgeConv with several layers, the first of them computed per point instead of per edge."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geo3d.cloud import Layout
from geo3d.nn.normalized import CHUNK
from geo3d.nn.set_abstraction import PooledMLP
from geo3d.ops.checks import check_finite, check_indices
from geo3d.ops.dense.grouped import WHAT, Rows


class EdgeMLP(nn.Module):
    """(M, channels[-1]): ``max_j h(W [x_j - x_i ; x_i])`` over the neighbours j of each point i, with further layers h.

    Every layer is a linear layer without bias, BatchNorm and LeakyReLU, as in the segmentation networks of DGCNN
    (arXiv 1801.07829). With ``W = [Wd | Wc]`` the first layer is ``Wd x_j + (Wc - Wd) x_i``: two products per point
    replace one per edge. The other layers work on edges. Batch statistics are those of all M * k edges. The compiled
    operator keeps no edges; torch's operators keep them in training, and in evaluation work on some points at a time.

    Compressed, the first layer pools and rounds its input once per point, and rounds its whole weight.

    Args:
        in_channels: Channels of the input.
        channels: Output channels of the layers.
        negative_slope: Slope of every LeakyReLU below zero.

    Attributes:
        mlp: The layers; the first has weight (channels[0], 2 * in_channels) in the published column order.
    """

    def __init__(self, in_channels: int, channels: Sequence[int], negative_slope: float = 0.2) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, channels[-1]
        self.mlp = PooledMLP([2 * in_channels, *channels], bias=False, slope=negative_slope)

    def forward(self, x: Tensor, neighbors: Tensor) -> Tensor:
        """(M, out_channels) features.

        Args:
            x: (M, in_channels) features.
            neighbors: (M, k) flat indices of the neighbours.
        """
        x = self.mlp.first.inputs(x)
        of_neighbor, of_center = self.mlp.first.matrix().chunk(2, 1)
        if self.mlp.runs_compiled(x):
            factored = torch.cat([of_neighbor, of_center - of_neighbor], 1)
            counts = neighbors.new_full((len(neighbors),), neighbors.shape[1])
            x = x.float()
            return self.mlp.grouped(Rows(x, None, None, neighbors, counts, x), neighbors.numel(), factored)
        check_indices("neighbors", neighbors, len(x))
        sign = self.mlp.sign()[:, None] if len(self.mlp.linears) == 1 else 1.0
        b, a = F.linear(x, sign * of_neighbor), F.linear(x, sign * (of_center - of_neighbor))
        if not self.training:
            check_finite(WHAT, a, b)
        k = neighbors.shape[1]
        step = len(neighbors) if self.training or torch.is_grad_enabled() else max(1, CHUNK // k)
        parts = []
        for some, own in zip(neighbors.split(step), a.split(step), strict=True):
            rows = (F.embedding(some, b) + own[:, None]).flatten(0, 1)
            ends = torch.arange(0, len(rows) + 1, k, device=rows.device)
            parts.append(self.mlp.after_first(rows, Layout(ends, k)))
        return torch.cat(parts)
