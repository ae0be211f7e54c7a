"""Weights of 8-bit layers in the order in which the compiled kernels read them."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from geo3d.errors import ConfigError

LIMIT = 63
"""Largest absolute value of a weight's code."""
GROUP, PANEL = 4, 16
"""Inputs of a group and outputs of a panel, which are stored together."""
MAX_DEPTH = 1 << 17
"""Most inputs of a layer: 255 * 63 * MAX_DEPTH < 2^31, so an int32 sum cannot overflow."""


class Packed(NamedTuple):
    """A weight's codes in the order in which the kernels read them; :func:`pack` makes it.

    Attributes:
        data: (parts, panels, groups, 16, 4) int8: panels of 16 outputs, groups of 4 inputs, padded with zeros.
        channels: C, the outputs of each part.
        depth: K, the inputs.
    """

    data: Tensor
    channels: int
    depth: int

    def codes(self) -> Tensor:
        """(parts C, K) int8 codes as they were before packing."""
        parts, panels, groups = self.data.shape[:3]
        rows = self.data.permute(0, 1, 3, 2, 4).reshape(parts, panels * PANEL, groups * GROUP)
        return rows[:, : self.channels, : self.depth].reshape(-1, self.depth)


def pack(codes: Tensor, parts: int = 1) -> Packed:
    """The codes of a weight packed for the kernels, once at load; the order is the same for all instruction sets.

    Args:
        codes: (parts C, K) int8 within [-63, 63].
        parts: 2 for :func:`edge_parts`, whose weight is ``[W_c ; W_d]``.

    Raises:
        ConfigError: If type, shape or values do not fit.

    Example:
        >>> packed = pack(torch.tensor([[1, -63, 5]], dtype=torch.int8))
        >>> packed.codes().tolist(), tuple(packed.data.shape)
        ([[1, -63, 5]], (1, 1, 1, 16, 4))
    """
    if codes.dtype != torch.int8 or codes.dim() != 2 or not codes.numel() or parts < 1 or codes.shape[0] % parts:
        raise ConfigError(
            f"a weight to be packed in {parts} parts must be int8 (parts C, K); "
            f"found {codes.dtype} {tuple(codes.shape)}"
        )
    qmin, qmax, depth, channels = int(codes.min()), int(codes.max()), codes.shape[1], codes.shape[0] // parts
    if depth > MAX_DEPTH or qmin < -LIMIT or qmax > LIMIT:
        raise ConfigError(
            f"codes of a weight must lie in [-{LIMIT}, {LIMIT}], at most {MAX_DEPTH} to a row; found [{qmin}, {qmax}], "
            f"{depth} to a row; quantise it to 7 bits or fewer"
        )
    rows = pad(codes.reshape(parts, channels, depth), (0, -depth % GROUP, 0, -channels % PANEL))
    data = rows.view(parts, -1, PANEL, rows.shape[2] // GROUP, GROUP).permute(0, 1, 3, 2, 4).contiguous()
    return Packed(data, channels, depth)
