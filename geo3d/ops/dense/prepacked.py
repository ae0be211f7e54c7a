"""Float layers for inference, whose weight is packed once, at load: on few rows, packing would be half of the work.

M points, K inputs, C outputs, B clouds. Without the compiled kernels torch computes the same from the plain weight.
There are no gradients.
"""

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from geo3d.cloud import Layout
from geo3d.errors import CloudError, ConfigError
from geo3d.ops import native
from geo3d.ops.checks import check_device, check_form_of_offsets
from geo3d.ops.dense.pooling import max_and_mean

WIDTH = 32
"""Outputs are padded to a multiple of this."""


class PackedFloat:
    """A weight for :func:`linear` and :func:`linear_pool`; made by :func:`pack`.

    Attributes:
        weight: (C, K) float32, not packed.
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self._build: str | None = None
        self._data = weight

    def data(self) -> Tensor:
        """The weight packed for the native build in use; packed again if the build has changed since the last call."""
        build = native.name()
        if build != self._build:
            columns, depth = self.weight.shape
            self._data = self.weight.new_empty(columns + -columns % WIDTH, depth)
            native.call("pack", columns, depth, self.weight, self._data, what="weight")
            self._build = build
        return self._data


def pack(weight: Tensor) -> PackedFloat:
    """The weight (C, K) float32, packed for the kernels.

    Raises:
        ConfigError: If type or shape do not fit.
    """
    if weight.dim() != 2 or weight.dtype != torch.float32 or not weight.numel():
        raise ConfigError(f"a weight to be packed must be float32 (C, K); found {weight.dtype} {tuple(weight.shape)}")
    packed = PackedFloat(weight.detach().clone(memory_format=torch.contiguous_format))
    if native.usable(packed.weight):
        packed.data()
    return packed


def _check(x: Tensor, packed: PackedFloat, out: Tensor, width: int, *vectors: Tensor) -> None:
    channels, depth = packed.weight.shape
    fits = x.dim() == 2 and x.shape[1] == depth and x.dtype == torch.float32
    fits = fits and out.dim() == 2 and out.shape[1] == width and out.dtype == torch.float32
    fits = fits and out.stride(1) == 1 and out.stride(0) >= width
    if not fits or not all(v.shape == (channels,) and v.dtype == torch.float32 and v.is_contiguous() for v in vectors):
        shapes = ", ".join(f"{t.dtype} {tuple(t.shape)}" for t in (x, out, *vectors))
        raise CloudError(
            f"a packed layer of {channels} channels needs float32 x (M, {depth}), an output of width {width} with "
            f"contiguous rows, and contiguous vectors ({channels},); found {shapes}"
        )


@torch.no_grad()
def linear(
    x: Tensor, packed: PackedFloat, bias: Tensor | None = None, slope: float = 1.0, out: Tensor | None = None
) -> Tensor:
    """(M, C) ``z > 0 ? z : slope z`` with ``z = x weight^T + bias``.

    Args:
        x: (M, K) float32; its row stride may exceed its width.
        packed: From :func:`pack`.
        bias: (C,) float32.
        slope: Negative slope of the LeakyReLU; 0 for ReLU, 1 for none.
        out: (M, C) to write into; its row stride may exceed its width.

    Raises:
        CloudError: If types or shapes do not fit.

    Example:
        >>> linear(torch.tensor([[1.0, 2.0]]), pack(torch.tensor([[1.0, 1.0], [0.0, -1.0]])), slope=0.5).tolist()
        [[3.0, -1.0]]
    """
    check_device("a packed layer's input", x, packed.weight, bias)
    (rows, depth), channels = x.shape, packed.weight.shape[0]
    out = torch.empty(rows, channels, dtype=torch.float32, device=x.device) if out is None else out
    _check(x, packed, out, channels, *(() if bias is None else (bias,)))
    if len(out) != rows:
        raise CloudError(f"out must have the {rows} rows of x; found {len(out)}")
    if not native.usable(x):
        z = torch.nn.functional.linear(x, packed.weight, bias)
        return out.copy_(leaky_relu(z, slope) if slope != 1 else z)
    x = x if x.stride(1) == 1 else x.contiguous()
    native.call(
        "linear_packed", rows, channels, depth, x, x.stride(0), packed.data(), bias, float(slope), out, out.stride(0)
    )
    return out


@torch.no_grad()
def linear_pool(
    x: Tensor, packed: PackedFloat, scale: Tensor, shift: Tensor, slope: float, ptr: Tensor, out: Tensor | None = None
) -> Tensor:
    """(B, 2 C) maximum and mean over each cloud of ``LeakyReLU(scale * x weight^T + shift)``.

    Args:
        x: (M, K) float32; its row stride may exceed its width.
        packed: From :func:`pack`.
        scale: (C,) float32 of any sign.
        shift: (C,) float32.
        slope: Negative slope of the LeakyReLU.
        ptr: (B + 1,) int64 offsets of the clouds.
        out: (B, 2 C) to write into; its row stride may exceed its width.

    Raises:
        CloudError: If types or shapes do not fit, or offsets do not rise from 0 to M.
    """
    check_form_of_offsets("ptr", ptr)
    check_device("a packed layer's input", x, packed.weight, scale, shift, ptr)
    (rows, depth), channels, clouds = x.shape, packed.weight.shape[0], len(ptr) - 1
    out = torch.empty(clouds, 2 * channels, dtype=torch.float32, device=x.device) if out is None else out
    _check(x, packed, out, 2 * channels, scale, shift)
    if ptr.dim() != 1 or ptr.dtype != torch.int64 or len(out) != clouds:
        raise CloudError(f"ptr must be int64 offsets ({len(out) + 1},); found {ptr.dtype} {tuple(ptr.shape)}")
    if not native.usable(x):
        h = torch.nn.functional.linear(x, packed.weight)
        return out.copy_(max_and_mean(leaky_relu(torch.addcmul(shift, h, scale), slope), Layout(ptr)))
    x = x if x.stride(1) == 1 else x.contiguous()
    native.call(
        "linear_pool_packed", rows, channels, depth, clouds, ptr.contiguous(), x, x.stride(0), packed.data(), scale,
        shift, float(slope), out, out.stride(0), what="ptr",
    )  # fmt: skip
    return out
