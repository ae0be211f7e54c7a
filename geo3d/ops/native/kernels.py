"""What each kernel is declared with in C, and how much of each array it reads or writes.

Every function below stands for ``geo3d_<name>`` of the library, its arguments for those of the C declaration behind
``threads``. It gives the sizes of the arrays among them, in their order: a number of elements where they lie one after
another, :class:`Spaced` where rows may lie apart. The arrays' element types are in the annotations, ``None`` among them
where the kernel takes a null pointer. What a kernel computes is said beside its source.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from geo3d.ops.native.pointers import F32, F64, I8, I32, I64, U8, ArgumentError, F32s, Kernel, Sizes, Spaced, told

KERNELS: dict[str, Kernel] = {}


def _kernel(sizes: Callable[..., Sizes]) -> Callable[..., Sizes]:
    KERNELS[sizes.__name__] = Kernel(sizes)
    return sizes


def _up(count: int, to: int) -> int:
    """The count, rounded up to a multiple."""
    return count + -count % to


def _full(channels: int) -> int:
    """The channels, which are taken in full vectors."""
    if channels % 16:
        raise ArgumentError(f"the kernel takes channels in multiples of 16; found {channels}")
    return channels


# Neighbours and samples of points.


@_kernel
def knn(
    clouds: int, channels: int, k: int, same: int, num_x: int, x: F32, ptr_x: I64, num_y: int, y: F32, ptr_y: I64,
    tree_from: int, out: I64,
) -> Sizes:  # fmt: skip
    return num_x * channels, clouds + 1, num_y * channels, clouds + 1, num_y * k


@_kernel
def ball_query(
    rows: int, queries: int, clouds: int, k: int, reach: float, pos: F32, ptr: I64, centers: F32, ptr_c: I64,
    table: I64, count: I64,
) -> Sizes:  # fmt: skip
    return 3 * rows, clouds + 1, 3 * queries, clouds + 1, queries * k, queries


@_kernel
def three_nearest(
    rows: int, others: int, clouds: int, pos: F32, ptr: I64, centers: F32, ptr_c: I64, index: I64, weight: F32
) -> Sizes:
    return 3 * rows, clouds + 1, 3 * others, clouds + 1, 3 * rows, 3 * rows


@_kernel
def farthest_points(rows: int, clouds: int, count: int, pos: F32, ptr: I64, first: I64, picks: I64) -> Sizes:
    return 3 * rows, clouds + 1, clouds, clouds * count


@_kernel
def farthest_from_centroid(rows: int, clouds: int, pos: F32, ptr: I64, best: I64) -> Sizes:
    return 3 * rows, clouds + 1, clouds


@_kernel
def voxel_groups(
    rows: int, clouds: int, pos: F32, ptr: I64, size: F64, group: I64, first: I64, count: I64, group_ptr: I64
) -> Sizes:
    return 3 * rows, clouds + 1, 1, rows, rows, rows, clouds + 1


# Maxima and sums over neighbours.


@_kernel
def gather_max(
    rows: int, k: int, channels: int, source_rows: int, b: F32, table: I64, top: F32, slot: U8 | None
) -> Sizes:
    return source_rows * channels, rows * k, rows * channels, rows * channels


@_kernel
def scatter_max(
    rows: int, k: int, channels: int, source_rows: int, grad: F32, slot: U8, table: I64, grad_b: F32
) -> Sizes:
    return rows * channels, rows * channels, rows * k, source_rows * channels


@_kernel
def scatter_sum(rows: int, k: int, channels: int, source_rows: int, grad: F32, table: I64, grad_b: F32) -> Sizes:
    return rows * channels, rows * k, source_rows * channels


@_kernel
def edge_evaluate(
    rows: int, k: int, channels: int, ab: F32, table: I64, scale: F32, shift: F32, slope: float, out: F32,
    out_stride: int,
) -> Sizes:  # fmt: skip
    channels = _full(channels)
    return 2 * rows * channels, rows * k, channels, channels, Spaced(rows, channels, out_stride)


@_kernel
def edge_collect(
    rows: int, k: int, channels: int, ab: F32, table: I64, shift_a: F32, shift_b: F32, top: F32, sum: F32, slot: U8,
    totals: F64,
) -> Sizes:  # fmt: skip
    channels = _full(channels)
    values = rows * channels
    return 2 * values, rows * k, channels, channels, values, values, values, 2 * channels


@_kernel
def edge_activate(rows: int, channels: int, top: F32, scale: F32, shift: F32, slope: float, out: F32) -> Sizes:
    channels = _full(channels)
    return rows * channels, channels, channels, rows * channels


@_kernel
def edge_reduce(rows: int, channels: int, grad: F32, out: F32, top: F32, mean: F32, slope: float, totals: F64) -> Sizes:
    channels = _full(channels)
    return rows * channels, rows * channels, rows * channels, channels, 2 * channels


@_kernel
def edge_backward(
    rows: int, k: int, channels: int, ab: F32, table: I64, sum: F32, slot: U8, grad: F32, out: F32, scale: F32,
    first: F32, second: F32, center: F32, shift_a: F32, center_b: F32, slope: float, grad_ab: F32,
) -> Sizes:  # fmt: skip
    channels = _full(channels)
    values = rows * channels
    return 2 * values, rows * k, *(4 * (values,)), *(6 * (channels,)), 2 * values


# Products of matrices, and the pooling behind one.


@_kernel
def linear(
    rows: int, columns: int, depth: int, a: F32, a_stride: int, b: F32, b_stride: int, bias: F32 | None, c: F32,
    c_stride: int,
) -> Sizes:  # fmt: skip
    return (
        Spaced(rows, depth, a_stride), Spaced(columns, depth, b_stride), columns, Spaced(rows, columns, c_stride),
    )  # fmt: skip


@_kernel
def linear_sums(rows: int, columns: int, depth: int, a: F32, b: F32, shift: F32, c: F32, totals: F64) -> Sizes:
    columns = _full(columns)
    return rows * depth, columns * depth, columns, rows * columns, 2 * columns


@_kernel
def multiply(
    rows: int, columns: int, depth: int, a: F32, a_stride: int, b: F32, b_stride: int, c: F32, c_stride: int
) -> Sizes:
    return Spaced(rows, depth, a_stride), Spaced(depth, columns, b_stride), Spaced(rows, columns, c_stride)


@_kernel
def outer(rows: int, height: int, width: int, a: F32, a_stride: int, b: F32, b_stride: int, c: F32) -> Sizes:
    return Spaced(rows, height, a_stride), Spaced(rows, width, b_stride), height * width


@_kernel
def pack(columns: int, depth: int, w: F32, packed: F32) -> Sizes:
    return columns * depth, _up(columns, 32) * depth


@_kernel
def linear_packed(
    rows: int, columns: int, depth: int, a: F32, a_stride: int, packed: F32, bias: F32 | None, slope: float, c: F32,
    c_stride: int,
) -> Sizes:  # fmt: skip
    return Spaced(rows, depth, a_stride), _up(columns, 32) * depth, columns, Spaced(rows, columns, c_stride)


@_kernel
def linear_pool_packed(
    rows: int, channels: int, depth: int, clouds: int, ptr: I64, x: F32, x_stride: int, packed: F32, scale: F32,
    shift: F32, slope: float, out: F32, out_stride: int,
) -> Sizes:  # fmt: skip
    x_size, out_size = Spaced(rows, depth, x_stride), Spaced(clouds, 2 * channels, out_stride)
    return clouds + 1, x_size, _up(channels, 32) * depth, channels, channels, out_size


@_kernel
def linear_pool(
    rows: int, channels: int, depth: int, clouds: int, ptr: I64, x: F32, w: F32, scale: F32, shift: F32, slope: float,
    out: F32,
) -> Sizes:  # fmt: skip
    channels = _full(channels)
    return clouds + 1, rows * depth, channels * depth, channels, channels, 2 * clouds * channels


@_kernel
def pool(
    rows: int, channels: int, clouds: int, ptr: I64, h: F32, scale: F32, shift: F32, slope: float, out: F32,
    winner: I64,
) -> Sizes:  # fmt: skip
    channels = _full(channels)
    return clouds + 1, rows * channels, channels, channels, 2 * clouds * channels, clouds * channels


@_kernel
def pool_reduce(
    rows: int, channels: int, clouds: int, ptr: I64, cloud_of: I64, winner: I64, h: F32, grad: F32, scale: F32,
    shift: F32, mean: F32, slope: float, totals: F64,
) -> Sizes:  # fmt: skip
    channels = _full(channels)
    vectors = 3 * (channels,)
    return clouds + 1, rows, clouds * channels, rows * channels, 2 * clouds * channels, *vectors, 2 * channels


@_kernel
def pool_backward(
    rows: int, channels: int, depth: int, ptr: I64, cloud_of: I64, winner: I64, h: F32, grad: F32, scale: F32,
    shift: F32, mean: F32, first: F32, second: F32, slope: float, x: F32, w: F32, grad_x: F32, grad_w: F32,
) -> Sizes:  # fmt: skip
    channels = _full(channels)
    clouds = ptr.numel() - 1 if isinstance(ptr, Tensor) else 0  # the one thing that no argument says
    weights = channels * depth
    return (
        clouds + 1, rows, clouds * channels, rows * channels, 2 * clouds * channels, *(5 * (channels,)),
        rows * depth, weights, rows * depth, weights,
    )  # fmt: skip


# Sums over windows of channels.


@_kernel
def sliding_sum(rows: int, channels: int, rank: int, x: F32, order: I64 | None, scale: float, out: F32) -> Sizes:
    return rows * channels, channels, rows * rank


@_kernel
def sliding_spread(rows: int, channels: int, rank: int, grad: F32, order: I64 | None, scale: float, out: F32) -> Sizes:
    return rows * rank, channels, rows * channels


# Small networks on rows in groups.


def _network(
    groups: int, k: int, points: int, of_points: Tensor | None, table: Tensor | None, layers: int, channels: Tensor,
    norms: int,
) -> tuple[tuple[int, ...], list[int], list[int], list[int]]:  # fmt: skip
    """Sizes of the source, channels, sizes of the weights behind the first layer and of so many vectors a layer."""
    if table is None and of_points is None:
        raise ArgumentError("rows in groups are edges of a table or given as they are; found neither")
    if channels.dtype != torch.int64 or channels.numel() != layers or layers < 2:
        raise ArgumentError(f"channels must be {layers} int64, 2 at least; found {told(channels)}")
    sizes: list[int] = channels.tolist()
    weights = [inner * outer for inner, outer in zip(sizes[:-1], sizes[1:], strict=True)]
    source = points * sizes[0], 3 * points, 3 * groups, 3 * sizes[0], groups * k, groups, layers
    return source, sizes, weights, [size for size in sizes for _ in range(norms)]


def _no_holes(table: Tensor | None, *needed: Tensor | None) -> None:
    if table is not None and any(each is None for each in needed):
        raise ArgumentError("edges of a table need positions, centres and the weight of their offsets; found None")


@_kernel
def grouped_max(
    groups: int, k: int, points: int, of_points: F32 | None, pos: F32 | None, centers: F32 | None,
    offset_weight: F32 | None, table: I64 | None, count: I64, layers: int, channels: I64, weights: F32s, norms: F32s,
    eps: float, activated: int, out: F32,
) -> Sizes:  # fmt: skip
    _no_holes(table, pos, centers, offset_weight)
    source, sizes, matrices, vectors = _network(groups, k, points, of_points, table, layers, channels, 5)
    return *source, matrices, vectors, groups * sizes[-1]


@_kernel
def grouped_train(
    groups: int, k: int, points: int, of_points: F32 | None, pos: F32 | None, centers: F32 | None,
    offset_weight: F32 | None, table: I64 | None, count: I64, layers: int, channels: I64, weights: F32s, norms: F32s,
    eps: float, top: F32, slot: I32, moments: F32,
) -> Sizes:  # fmt: skip
    _no_holes(table, pos, centers, offset_weight)
    source, sizes, matrices, vectors = _network(groups, k, points, of_points, table, layers, channels, 2)
    return *source, matrices, vectors, groups * sizes[-1], groups * sizes[-1], 2 * sum(sizes) + sizes[-2]


@_kernel
def grouped_backward(
    groups: int, k: int, points: int, of_points: F32 | None, pos: F32 | None, centers: F32 | None,
    offset_weight: F32 | None, table: I64 | None, count: I64, layers: int, channels: I64, weights: F32s, norms: F32s,
    eps: float, top: F32, slot: I32, moments: F32, d_out: F32, d_of_points: F32 | None, d_offset_weight: F32 | None,
    d_weights: F32s, d_norms: F32s,
) -> Sizes:  # fmt: skip
    _no_holes(table, pos, centers, offset_weight, d_offset_weight)
    if (of_points is None) != (d_of_points is None):
        raise ArgumentError("what points receive is written where points have features; found one without the other")
    source, sizes, matrices, vectors = _network(groups, k, points, of_points, table, layers, channels, 2)
    last = groups * sizes[-1]
    return (
        *source, matrices, vectors, last, last, 2 * sum(sizes) + sizes[-2], last, points * sizes[0], 3 * sizes[0],
        matrices, vectors,
    )  # fmt: skip


# Rounding, and layers on codes of 8 bits.


@_kernel
def fake_quantize(
    rows: int, columns: int, groups: int, by_column: int, x: F32, step: F32, offset: F32 | None, low: float,
    high: float, out: F32,
) -> Sizes:  # fmt: skip
    steps = columns if by_column else groups
    return rows * columns, steps, steps, rows * columns


@_kernel
def fake_quantize_backward(
    rows: int, columns: int, groups: int, by_column: int, grad: F32, x: F32, step: F32, offset: F32 | None, low: float,
    high: float, of_x: F32, of_step: F32, of_offset: F32,
) -> Sizes:  # fmt: skip
    steps, values = columns if by_column else groups, rows * columns
    return values, values, steps, steps, values, steps, steps


@_kernel
def quantize(
    rows: int, columns: int, groups: int, by_column: int, x: F32, step: F32, offset: F32 | None, low: float,
    high: float, codes: U8,
) -> Sizes:  # fmt: skip
    steps = columns if by_column else groups
    return rows * columns, steps, steps, rows * columns


@_kernel
def int8_paths(choice: int, told: I64) -> Sizes:
    return (2,)


@_kernel
def int8_quantize(
    rows: int, depth: int, x: F32, x_stride: int, step: F32, offset: F32, high: int, q: U8, width: int
) -> Sizes:
    return Spaced(rows, depth, x_stride), 1, 1, Spaced(rows, _up(depth, 4), width)


@_kernel
def int8_accumulate(rows: int, channels: int, depth: int, q: U8, packed: I8, out: I32) -> Sizes:
    return rows * depth, _up(channels, 16) * _up(depth, 4), rows * channels


@_kernel
def int8_linear(
    rows: int, channels: int, depth: int, q: U8, packed: I8, scale: F32, shift: F32, slope: float, out: F32,
    out_stride: int,
) -> Sizes:  # fmt: skip
    weight = _up(channels, 16) * _up(depth, 4)
    return rows * depth, weight, channels, channels, Spaced(rows, channels, out_stride)


@_kernel
def int8_edge_parts(
    rows: int, channels: int, depth: int, q: U8, packed: I8, scale: F32, shift: F32, steps: int, step: F32,
    offsets: int, offset: F32, high: int, a: F32, codes: U8, width: int,
) -> Sizes:  # fmt: skip
    weight, table = 2 * _up(channels, 16) * _up(depth, 4), Spaced(rows, _up(channels, 64), width)
    one_or_all = [channels if count > 1 else 1 for count in (steps, offsets)]
    return rows * depth, weight, 2 * channels, 2 * channels, *one_or_all, rows * channels, table


@_kernel
def int8_edge_evaluate(
    rows: int, k: int, channels: int, a: F32, codes: U8, width: int, table: I64, steps: int, step: F32, offsets: int,
    offset: F32, scale: F32, shift: F32, slope: float, out: F32, out_stride: int,
) -> Sizes:  # fmt: skip
    one_or_all = [channels if count > 1 else 1 for count in (steps, offsets)]
    coded, written = Spaced(rows, _up(channels, 64), width), Spaced(rows, channels, out_stride)
    return rows * channels, coded, rows * k, *one_or_all, channels, channels, written


@_kernel
def int8_linear_pool(
    rows: int, channels: int, depth: int, clouds: int, ptr: I64, q: U8, packed: I8, scale: F32, shift: F32,
    slope: float, out: F32, out_stride: int,
) -> Sizes:  # fmt: skip
    weight, written = _up(channels, 16) * _up(depth, 4), Spaced(clouds, 2 * channels, out_stride)
    return clouds + 1, rows * depth, weight, channels, channels, written
