"""The linear layer of all encoders, and what compression can put into it."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """``nn.Linear`` with four slots that compression fills; while they are None it is a plain ``nn.Linear``.

    The layer computes ``inputs(x) matrix()^T + bias``. Two slots act on the input before the product:

    - ``pool`` (structured): sums over windows of channels, (M, P) -> (M, R); ``weight`` then is (out_channels, R);
    - ``input_quantizer``: rounds the input, after the pooling.

    Two slots act on the weight before the product:

    - ``mask`` (pruned): scales weights towards zero, or sets them to zero;
    - ``quantizer``: rounds the weight, after the mask.

    Attributes:
        skip: How many leading columns of the input are coordinates, which are neither pooled nor rounded.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, bias=bias)
        self.pool: Any = None
        self.mask: Any = None
        self.quantizer: Any = None
        self.input_quantizer: Any = None
        self.skip = 0

    def inputs(self, x: Tensor, skip: int | None = None) -> Tensor:
        """(M, K) input of the product: x after the pooling and the rounding; coordinates stay as they are.

        Args:
            x: (M, in_channels), or with ``skip=0`` only the columns after the coordinates.
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
        """The weight after the mask, before it is rounded."""
        return self.weight if self.mask is None else self.mask(self.weight)

    def matrix(self) -> Tensor:
        """The weight after the mask and the rounding: what the inputs are multiplied by."""
        weight = self.masked()
        return weight if self.quantizer is None else self.quantizer(weight)

    def forward(self, x: Tensor) -> Tensor:
        """(M, out_channels) from (M, in_channels)."""
        return F.linear(self.inputs(x), self.matrix(), self.bias)


def linear(in_channels: int, out_channels: int, bias: bool = False) -> Linear:
    """A layer with ``weight (out_channels, in_channels)``; by default without a bias, since a norm usually follows."""
    return Linear(in_channels, out_channels, bias=bias)
