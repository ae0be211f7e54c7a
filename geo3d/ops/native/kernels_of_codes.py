"""Declarations of the kernels that quantise and of those on 8-bit codes; see :mod:`geo3d.ops.native.kernels`."""

from geo3d.ops.native.pointers import F32, I8, I32, I64, U8, Kernels, Sizes, Spaced, rounded_up

KERNELS = Kernels()


@KERNELS.declare
def fake_quantize(
    rows: int, columns: int, groups: int, by_column: int, x: F32, step: F32, offset: F32 | None, low: float,
    high: float, out: F32,
) -> Sizes:  # fmt: skip
    steps = columns if by_column else groups
    return rows * columns, steps, steps, rows * columns


@KERNELS.declare
def fake_quantize_backward(
    rows: int, columns: int, groups: int, by_column: int, grad: F32, x: F32, step: F32, offset: F32 | None, low: float,
    high: float, of_x: F32, of_step: F32, of_offset: F32,
) -> Sizes:  # fmt: skip
    steps, values = columns if by_column else groups, rows * columns
    return values, values, steps, steps, values, steps, steps


@KERNELS.declare
def quantize(
    rows: int, columns: int, groups: int, by_column: int, x: F32, step: F32, offset: F32 | None, low: float,
    high: float, codes: U8,
) -> Sizes:  # fmt: skip
    steps = columns if by_column else groups
    return rows * columns, steps, steps, rows * columns


@KERNELS.declare
def int8_paths(choice: int, told: I64) -> Sizes:
    return (2,)


@KERNELS.declare
def int8_quantize(
    rows: int, depth: int, x: F32, x_stride: int, step: F32, offset: F32, high: int, q: U8, width: int
) -> Sizes:
    return Spaced(rows, depth, x_stride), 1, 1, Spaced(rows, rounded_up(depth, 4), width)


@KERNELS.declare
def int8_accumulate(rows: int, channels: int, depth: int, q: U8, packed: I8, out: I32) -> Sizes:
    return rows * depth, rounded_up(channels, 16) * rounded_up(depth, 4), rows * channels


@KERNELS.declare
def int8_linear(
    rows: int, channels: int, depth: int, q: U8, packed: I8, scale: F32, shift: F32, slope: float, out: F32,
    out_stride: int,
) -> Sizes:  # fmt: skip
    weight = rounded_up(channels, 16) * rounded_up(depth, 4)
    return rows * depth, weight, channels, channels, Spaced(rows, channels, out_stride)


@KERNELS.declare
def int8_edge_parts(
    rows: int, channels: int, depth: int, q: U8, packed: I8, scale: F32, shift: F32, steps: int, step: F32,
    offsets: int, offset: F32, high: int, a: F32, codes: U8, width: int,
) -> Sizes:  # fmt: skip
    weight, padded = 2 * rounded_up(channels, 16) * rounded_up(depth, 4), Spaced(rows, rounded_up(channels, 64), width)
    one_or_all = [channels if count > 1 else 1 for count in (steps, offsets)]
    return rows * depth, weight, 2 * channels, 2 * channels, *one_or_all, rows * channels, padded


@KERNELS.declare
def int8_edge_evaluate(
    rows: int, k: int, channels: int, a: F32, codes: U8, width: int, neighbors: I64, steps: int, step: F32,
    offsets: int, offset: F32, scale: F32, shift: F32, slope: float, out: F32, out_stride: int,
) -> Sizes:  # fmt: skip
    one_or_all = [channels if count > 1 else 1 for count in (steps, offsets)]
    coded, written = Spaced(rows, rounded_up(channels, 64), width), Spaced(rows, channels, out_stride)
    return rows * channels, coded, rows * k, *one_or_all, channels, channels, written


@KERNELS.declare
def int8_linear_pool(
    rows: int, channels: int, depth: int, clouds: int, ptr: I64, q: U8, packed: I8, scale: F32, shift: F32,
    slope: float, out: F32, out_stride: int,
) -> Sizes:  # fmt: skip
    weight, written = rounded_up(channels, 16) * rounded_up(depth, 4), Spaced(clouds, 2 * channels, out_stride)
    return clouds + 1, rows * depth, weight, channels, channels, written
