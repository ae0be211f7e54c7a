"""The one place where the encoders' linear layers are made, and every form that they can take."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """``nn.Linear`` with places for what compression puts into it; without any it is just that.

    The product is ``inputs(x) matrix()^T + bias``. What stands between x and the product:

    - ``pool`` (structured): sums over windows of channels, (M, P) -> (M, R); ``weight`` then is (out_channels, R);
    - ``input_quantizer``: rounds what enters the product, the sums of windows included.

    And what stands between the weight and the product:

    - ``mask`` (pruned): weights that are on their way to zero, or there;
    - ``quantizer``: rounds the weight.

    Attributes:
        skip: So many leading columns of the input are coordinates, which are neither summed nor rounded.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, bias=bias)
        self.pool: Any = None
        self.mask: Any = None
        self.quantizer: Any = None
        self.input_quantizer: Any = None
        self.skip = 0

    def inputs(self, x: Tensor, skip: int | None = None) -> Tensor:
        """What enters the product.

        Args:
            x: (M, in_channels), or the columns behind the coordinates alone with ``skip=0``.
            skip: How many leading columns are coordinates; by default the layer's own number.
        """
        skip = self.skip if skip is None else skip
        if self.pool is None and self.input_quantizer is None:
            return x
        values = x[:, skip:]
        if self.pool is not None:
            values = self.pool(values)
        if self.input_quantizer is not None:
            values = self.input_quantizer(values)
        return torch.cat([x[:, :skip], values], 1) if skip else values

    def masked(self) -> Tensor:
        """The weight as pruning leaves it, before it is rounded."""
        return self.weight if self.mask is None else self.mask(self.weight)

    def matrix(self) -> Tensor:
        """What the inputs are multiplied by."""
        weight = self.masked()
        return weight if self.quantizer is None else self.quantizer(weight)

    def forward(self, x: Tensor) -> Tensor:
        """(M, out_channels) from (M, in_channels)."""
        return F.linear(self.inputs(x), self.matrix(), self.bias)


def linear(in_channels: int, out_channels: int, bias: bool = False) -> Linear:
    """A layer with ``weight (out_channels, in_channels)``; geo3d's encoders put a norm behind it, hence no bias."""
    return Linear(in_channels, out_channels, bias=bias)
