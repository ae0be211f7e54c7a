"""Point features concatenated with the features of their cloud, as in the published segmentation networks."""

import torch
from torch import Tensor, nn

from geo3d.checks import checked
from geo3d.cloud import Features
from geo3d.decoders.upcast import Channels
from geo3d.nn.graph import Op


class GlobalConcat(nn.Module):
    """(M, cloud_channels + point_channels) features ``[cloud[batch], point]`` (PointNet, arXiv 1612.00593).

    Args:
        point_channels: Channels of the encoder's point features.
        cloud_channels: Channels of the encoder's cloud features.
    """

    @checked
    def __init__(self, point_channels: Channels, cloud_channels: Channels) -> None:
        super().__init__()
        self.point_channels, self.cloud_channels = point_channels, cloud_channels
        self.out_channels = cloud_channels + point_channels

    def forward(self, features: Features) -> Tensor:
        """(M, out_channels) features of the points from those of the encoder."""
        sizes = features.levels[0].layout.ptr.diff()
        cloud = features.cloud.repeat_interleave(sizes, 0, output_size=len(features.point))
        return torch.cat([cloud, features.point], 1)

    def layer_graph(self) -> tuple[Op, ...]:
        """The operations, see :mod:`geo3d.nn.graph`."""
        return (
            Op("input", "cloud", number=self.cloud_channels),
            Op("input", "point", number=self.point_channels),
            Op("expand", "cloud.rows", ("cloud", "point")),
            Op("concat", "rows", ("cloud.rows", "point")),
        )
