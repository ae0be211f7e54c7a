"""Layers on 8-bit codes, for inference: the compiled kernels or ``int8_reference``, which give the same bits.

M points, K inputs, C outputs, B clouds. A rounded input stands for ``x = step q + offset`` with uint8 codes q (M, K), a
rounded weight for ``w = weight_step[c] code[c, k]`` with int8 codes within [-63, 63]. So the sum of two products fits
into 16 bits, and all instruction sets give the same sum. A layer is ``acc * scale + shift``, where ``acc`` is the exact
int32 sum of products of codes. For a plain layer ``scale = step weight_step`` and ``shift = offset weight_step
code.sum(1)``; a norm or bias after it is folded into both at load, in float64.

Every float32 operation is rounded by itself, in a fixed order. So results have the same bits on every machine and at
any number of threads. No gradients.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import pad

from geo3d.errors import CloudError, ConfigError
from geo3d.ops import native
from geo3d.ops.checks import check_device, check_indices, check_offsets
from geo3d.ops.quant import int8_reference as reference
from geo3d.ops.quant.int8_packed import GROUP, LIMIT, Packed, pack

__all__ = [
    "LIMIT", "PATHS", "ROW", "Packed", "accumulate", "edge_evaluate", "edge_parts", "linear", "linear_pool", "pack",
    "path", "paths", "quantize_rows", "using",
]  # fmt: skip

PATHS = ("portable", "avx2", "vnni256", "vnni512")
"""Instructions for the products of codes, slowest first."""
ROW = 64
"""An edge convolution's rows of codes are padded to a multiple of this many bytes."""


def path() -> str | None:
    """The instructions in use for products of codes, one of ``PATHS``; None when torch computes them."""
    return PATHS[_paths()[0]] if native.name() else None


def paths() -> list[str]:
    """Those of ``PATHS`` that the library in use has and this processor runs."""
    return [name for bit, name in enumerate(PATHS) if _paths()[1] >> bit & 1] if native.name() else []


def _paths(choice: int = -1) -> list[int]:
    told = torch.empty(2, dtype=torch.int64)
    native.call("int8_paths", choice, told, what="path")
    return told.tolist()


@contextmanager
def using(path: str) -> Iterator[None]:
    """Context in which the library in use computes products of codes by these instructions; for tests and comparisons.

    Raises:
        ConfigError: If the library in use or this processor does not have them.
    """
    if path not in paths():
        raise ConfigError(f"path must be one of {', '.join(paths()) or 'none'}; found {path}")
    before = _paths()[0]
    _paths(PATHS.index(path))
    try:
        yield
    finally:
        _paths(before)


def _vector(values: Tensor, *sizes: int) -> bool:
    return values.dtype == torch.float32 and values.dim() == 1 and values.numel() in sizes and values.is_contiguous()


def _placed(out: Tensor | None, like: Tensor, rows: int, channels: int) -> Tensor:
    """``out`` if it fits, else an error; a new tensor (rows, channels) if it is None."""
    if out is None:
        return torch.empty(rows, channels, dtype=torch.float32, device=like.device)
    if out.shape != (rows, channels) or out.dtype != torch.float32 or out.stride(1) != 1 or out.stride(0) < channels:
        raise CloudError(
            f"out must be float32 {(rows, channels)} with contiguous rows; found {out.dtype} {tuple(out.shape)} with "
            f"strides {out.stride()}"
        )
    return out


def _check_rounding(channels: int, step: Tensor, offset: Tensor, qmax: int = 255) -> None:
    if not (_vector(step, 1, channels) and _vector(offset, 1, channels) and 0 < qmax < 256):
        raise CloudError(
            f"codes need float32 step and offset (1,){f' or ({channels},)' if channels > 1 else ''} and qmax in "
            f"[1, 255]; found {step.dtype} {tuple(step.shape)}, {offset.dtype} {tuple(offset.shape)} and {qmax}"
        )


def _check(q: Tensor, packed: Packed, parts: int, *vectors: Tensor) -> None:
    width, channels = packed.data.shape[2] * GROUP, parts * packed.channels
    fits = q.dim() == 2 and q.dtype == torch.uint8 and q.shape[1] == width and q.is_contiguous()
    if not fits or packed.data.shape[0] != parts or not all(_vector(v, channels) for v in vectors):
        raise CloudError(
            f"a layer of {packed.data.shape[0]} x {packed.channels} channels needs uint8 codes (M, {width}) and "
            f"{parts} x {packed.channels} float32 scales and shifts; found {q.dtype} {tuple(q.shape)}"
            + "".join(f", {v.dtype} {tuple(v.shape)}" for v in vectors)
        )


def quantize_rows(x: Tensor, step: Tensor, offset: Tensor, qmax: int) -> Tensor:
    """(M, K rounded up to 4) uint8 codes ``round(clamp((x - offset) / step, 0, qmax))``, half to even; then zeros.

    Args:
        x: (M, K) float32; its row stride may exceed its width.
        step: (1,) float32, positive.
        offset: (1,) float32.
        qmax: The largest code, at most 255.

    Raises:
        CloudError: If types or shapes do not fit.
        NotFiniteError: If x holds NaN.

    Example:
        >>> quantize_rows(torch.tensor([[-1.0, 0.5, 1.5, 2.4, 9.0]]), torch.ones(1), torch.zeros(1), 7).tolist()
        [[0, 0, 2, 2, 7, 0, 0, 0]]
    """
    _check_rounding(1, step, offset, qmax)
    if x.dim() != 2 or x.dtype != torch.float32:
        raise CloudError(f"x must be float32 (M, K); found {x.dtype} {tuple(x.shape)}")
    rows, depth = x.shape
    width = depth + -depth % GROUP
    if not native.usable(x):
        if bool(x.isnan().any()):
            raise native.error(native.NOT_FINITE, "x")
        return pad(reference.rounded(x, step, offset, qmax), (0, width - depth))
    x = x if x.stride(1) == 1 else x.contiguous()
    q = torch.empty(rows, width, dtype=torch.uint8)
    native.call("int8_quantize", rows, depth, x, x.stride(0), step, offset, qmax, q, width, what="x")
    return q


def accumulate(q: Tensor, packed: Packed) -> Tensor:
    """(M, C) int32 sums over k of ``q[m, k] code[c, k]``, exact.

    Args:
        q: (M, K rounded up to 4) from :func:`quantize_rows`.
        packed: From :func:`pack`, in one part.
    """
    _check(q, packed, 1)
    if not native.usable(q):
        return reference.products(q[:, : packed.depth], packed.codes())
    out = torch.empty(len(q), packed.channels, dtype=torch.int32)
    native.call("int8_accumulate", len(q), packed.channels, q.shape[1], q, packed.data, out, what="codes")
    return out


def linear(
    q: Tensor, packed: Packed, scale: Tensor, shift: Tensor, slope: float = 1.0, out: Tensor | None = None
) -> Tensor:
    """(M, C) float32 ``z > 0 ? z : slope z`` with ``z = acc * scale + shift``.

    Args:
        q: (M, K rounded up to 4) from :func:`quantize_rows`.
        packed: From :func:`pack`, in one part.
        scale: (C,) float32.
        shift: (C,) float32.
        slope: Negative slope of the LeakyReLU; 0 for ReLU, 1 for none.
        out: (M, C) to write into; its row stride may exceed its width.

    Raises:
        CloudError: If types or shapes do not fit.

    Example:
        >>> packed = pack(torch.tensor([[1, 2, 3]], dtype=torch.int8))
        >>> linear(torch.tensor([[1, 1, 2, 0]], dtype=torch.uint8), packed, torch.ones(1), torch.ones(1)).tolist()
        [[10.0]]
    """
    _check(q, packed, 1, scale, shift)
    out = _placed(out, q, len(q), packed.channels)
    if not native.usable(q):
        return out.copy_(reference.linear(q[:, : packed.depth], packed.codes(), scale, shift, slope))
    native.call(
        "int8_linear", len(q), packed.channels, q.shape[1], q, packed.data, scale, shift, float(slope), out,
        out.stride(0), what="codes",
    )  # fmt: skip
    return out


def edge_parts(
    q: Tensor, packed: Packed, scale: Tensor, shift: Tensor, step: Tensor, offset: Tensor, qmax: int
) -> tuple[Tensor, Tensor]:
    """(M, C) float32 a and (M, C rounded up to 64) uint8 codes of b, for an edge convolution ``a_i + max_j b_j``.

    The two parts of the weight give c and b, each as ``acc * scale + shift``. ``a = c - b`` uses b before it is rounded
    to the codes ``round(clamp((b - offset) / step, 0, qmax))``. Codes beyond C are 0.

    Args:
        q: (M, K rounded up to 4) from :func:`quantize_rows`.
        packed: ``[W_c ; W_d]`` from :func:`pack` in two parts.
        scale: (2 C,) float32, for c, then for b.
        shift: (2 C,) float32.
        step: (1,) or (C,) float32, positive: the step of b's codes.
        offset: (1,) or (C,) float32.
        qmax: The largest code, at most 255.

    Raises:
        CloudError: If types or shapes do not fit.
    """
    _check(q, packed, 2, scale, shift)
    _check_rounding(packed.channels, step, offset, qmax)
    rows, channels = len(q), packed.channels
    width = channels + -channels % ROW
    if not native.usable(q):
        a, codes = reference.edge_parts(q[:, : packed.depth], packed.codes(), scale, shift, step, offset, qmax)
        return a, pad(codes, (0, width - channels))
    a, codes = torch.empty(rows, channels, dtype=torch.float32), torch.empty(rows, width, dtype=torch.uint8)
    native.call(
        "int8_edge_parts", rows, channels, q.shape[1], q, packed.data, scale, shift, len(step), step, len(offset),
        offset, qmax, a, codes, width, what="codes",
    )  # fmt: skip
    return a, codes


def edge_evaluate(
    a: Tensor, codes: Tensor, neighbors: Tensor, step: Tensor, offset: Tensor, scale: Tensor, shift: Tensor,
    slope: float, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """(M, C) ``z > 0 ? z : slope z`` with ``z = (a + (max_j code_j * step + offset)) * scale + shift``.

    The largest code stands for the largest value, as rounding is monotone.

    Args:
        a: (M, C) float32 from :func:`edge_parts`.
        codes: (M, C rounded up to 64) uint8 from :func:`edge_parts`.
        neighbors: (M, k) int64 neighbours.
        step: (1,) or (C,) float32.
        offset: (1,) or (C,) float32.
        scale: (C,) float32, not negative (signs are folded into the weights).
        shift: (C,) float32.
        slope: Negative slope of the LeakyReLU.
        out: (M, C) to write into; its row stride may exceed its width.

    Raises:
        CloudError: If types or shapes do not fit, or an index is out of range.
    """
    check_device("an edge convolution's codes", a, codes, neighbors, step, offset, scale, shift)
    rows, channels = a.shape
    width = channels + -channels % ROW
    fits = a.dtype == torch.float32 and codes.shape == (rows, width) and codes.dtype == torch.uint8
    fits = (
        fits
        and neighbors.dim() == 2
        and neighbors.shape[0] == rows
        and neighbors.shape[1] > 0
        and neighbors.dtype == torch.int64
    )
    if not fits or not (_vector(scale, channels) and _vector(shift, channels)):
        shapes = ", ".join(f"{t.dtype} {tuple(t.shape)}" for t in (a, codes, neighbors, scale, shift))
        raise CloudError(
            f"an edge convolution on codes needs float32 a (M, C), uint8 codes (M, {width}), int64 neighbors (M, k) "
            f"and float32 scale and shift (C,); found {shapes}"
        )
    _check_rounding(channels, step, offset)
    out = _placed(out, a, rows, channels)
    if not native.usable(a):
        check_indices("neighbors", neighbors, rows)
        codes = codes[:, :channels]
        return out.copy_(reference.edge_evaluate(a, codes, neighbors, step, offset, scale, shift, slope))
    native.call(
        "int8_edge_evaluate", rows, neighbors.shape[1], channels, a.contiguous(), codes.contiguous(), width,
        neighbors.contiguous(), len(step), step, len(offset), offset, scale, shift, float(slope), out, out.stride(0),
        what="neighbors",
    )  # fmt: skip
    return out


def linear_pool(
    q: Tensor, packed: Packed, scale: Tensor, shift: Tensor, slope: float, ptr: Tensor, out: Tensor | None = None
) -> Tensor:
    """(B, 2 C) maximum and mean over each cloud of ``z > 0 ? z : slope z`` with ``z = acc * scale + shift``.

    Each cloud is summed in a fixed order. It is cut into runs of 192 rows, from its first row on. The rows of a run are
    added one after another, from 0; then the sums of the runs likewise. The mean is the sum divided by the number of
    rows. All of this is in float32.

    Args:
        q: (M, K rounded up to 4) from :func:`quantize_rows`.
        packed: From :func:`pack`, in one part.
        scale: (C,) float32 of any sign.
        shift: (C,) float32.
        slope: Negative slope of the LeakyReLU.
        ptr: (B + 1,) int64 offsets of the clouds.
        out: (B, 2 C) to write into; its row stride may exceed its width.

    Raises:
        CloudError: If types or shapes do not fit, or offsets do not rise from 0 to M.
    """
    _check(q, packed, 1, scale, shift)
    check_device("codes and offsets", q, packed.data, scale, shift, ptr)
    if ptr.dim() != 1 or ptr.dtype != torch.int64 or len(ptr) < 2:
        raise CloudError(f"ptr must be int64 offsets (B + 1,); found {ptr.dtype} {tuple(ptr.shape)}")
    clouds, channels = len(ptr) - 1, packed.channels
    out = _placed(out, q, clouds, 2 * channels)
    if not native.usable(q):
        check_offsets("ptr", ptr, len(q))
        return out.copy_(reference.linear_pool(q[:, : packed.depth], packed.codes(), scale, shift, slope, ptr))
    native.call(
        "int8_linear_pool", len(q), channels, q.shape[1], clouds, ptr.contiguous(), q, packed.data, scale, shift,
        float(slope), out, out.stride(0), what="ptr",
    )  # fmt: skip
    return out
