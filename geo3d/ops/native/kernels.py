"""The kernels' C declarations, and how much of each array a kernel reads or writes.

Each function below stands for ``geo3d_<name>`` of the library; its arguments are those of the C declaration after
``threads``. It returns the size of each array among them, in order: a number of elements where the array is dense,
:class:`Spaced` where its rows may be strided. The annotations give the element types, with ``None`` where the kernel
takes a null pointer. The comments in the C++ sources say what a kernel computes.
"""

from torch import Tensor

from geo3d.ops.native import kernels_of_codes, kernels_of_groups
from geo3d.ops.native.pointers import F32, F64, I64, U8, Kernels, Sizes, Spaced, full, rounded_up

KERNELS = Kernels(kernels_of_codes.KERNELS | kernels_of_groups.KERNELS)


# Neighbours and samples of points.


@KERNELS.declare
def knn(
    clouds: int, channels: int, k: int, same: int, num_x: int, x: F32, ptr_x: I64, num_y: int, y: F32, ptr_y: I64,
    tree_from: int, out: I64,
) -> Sizes:  # fmt: skip
    return num_x * channels, clouds + 1, num_y * channels, clouds + 1, num_y * k


@KERNELS.declare
def ball_query(
    rows: int, queries: int, clouds: int, k: int, reach: float, pos: F32, ptr: I64, centers: F32, center_ptr: I64,
    neighbors: I64, count: I64,
) -> Sizes:  # fmt: skip
    return 3 * rows, clouds + 1, 3 * queries, clouds + 1, queries * k, queries


@KERNELS.declare
def three_nearest(
    rows: int, others: int, clouds: int, pos: F32, ptr: I64, centers: F32, center_ptr: I64, index: I64, weight: F32
) -> Sizes:
    return 3 * rows, clouds + 1, 3 * others, clouds + 1, 3 * rows, 3 * rows


@KERNELS.declare
def farthest_points(rows: int, clouds: int, count: int, pos: F32, ptr: I64, first: I64, picks: I64) -> Sizes:
    return 3 * rows, clouds + 1, clouds, clouds * count


@KERNELS.declare
def farthest_from_centroid(rows: int, clouds: int, pos: F32, ptr: I64, best: I64) -> Sizes:
    return 3 * rows, clouds + 1, clouds


@KERNELS.declare
def voxel_groups(
    rows: int, clouds: int, pos: F32, ptr: I64, size: F64, group: I64, first: I64, count: I64, group_ptr: I64
) -> Sizes:
    return 3 * rows, clouds + 1, 1, rows, rows, rows, clouds + 1


# Pictures.


@KERNELS.declare
def depth_image(faces: int, height: int, width: int, corner: F32, camera: F64, depth: F32, face: I64) -> Sizes:
    return 9 * faces, 4, height * width, height * width


# Maxima and sums over neighbours.


@KERNELS.declare
def gather_max(
    rows: int, k: int, channels: int, source_rows: int, b: F32, neighbors: I64, top: F32, slot: U8 | None
) -> Sizes:
    return source_rows * channels, rows * k, rows * channels, rows * channels


@KERNELS.declare
def scatter_max(
    rows: int, k: int, channels: int, source_rows: int, grad: F32, slot: U8, neighbors: I64, grad_b: F32
) -> Sizes:
    return rows * channels, rows * channels, rows * k, source_rows * channels


@KERNELS.declare
def scatter_sum(rows: int, k: int, channels: int, source_rows: int, grad: F32, neighbors: I64, grad_b: F32) -> Sizes:
    return rows * channels, rows * k, source_rows * channels


@KERNELS.declare
def edge_evaluate(
    rows: int, k: int, channels: int, ab: F32, neighbors: I64, scale: F32, shift: F32, slope: float, out: F32,
    out_stride: int,
) -> Sizes:  # fmt: skip
    channels = full(channels)
    return 2 * rows * channels, rows * k, channels, channels, Spaced(rows, channels, out_stride)


@KERNELS.declare
def edge_collect(
    rows: int, k: int, channels: int, ab: F32, neighbors: I64, shift_a: F32, shift_b: F32, top: F32, sum: F32, slot: U8,
    totals: F64,
) -> Sizes:  # fmt: skip
    channels = full(channels)
    values = rows * channels
    return 2 * values, rows * k, channels, channels, values, values, values, 2 * channels


@KERNELS.declare
def edge_activate(rows: int, channels: int, top: F32, scale: F32, shift: F32, slope: float, out: F32) -> Sizes:
    channels = full(channels)
    return rows * channels, channels, channels, rows * channels


@KERNELS.declare
def edge_reduce(rows: int, channels: int, grad: F32, out: F32, top: F32, mean: F32, slope: float, totals: F64) -> Sizes:
    channels = full(channels)
    return rows * channels, rows * channels, rows * channels, channels, 2 * channels


@KERNELS.declare
def edge_backward(
    rows: int, k: int, channels: int, ab: F32, neighbors: I64, sum: F32, slot: U8, grad: F32, out: F32, scale: F32,
    first: F32, second: F32, center: F32, shift_a: F32, center_b: F32, slope: float, grad_ab: F32,
) -> Sizes:  # fmt: skip
    channels = full(channels)
    values = rows * channels
    return 2 * values, rows * k, *(4 * (values,)), *(6 * (channels,)), 2 * values


# Matrix products, and the pooling after one.


@KERNELS.declare
def linear(
    rows: int, columns: int, depth: int, a: F32, a_stride: int, b: F32, b_stride: int, bias: F32 | None, c: F32,
    c_stride: int,
) -> Sizes:  # fmt: skip
    return (
        Spaced(rows, depth, a_stride), Spaced(columns, depth, b_stride), columns, Spaced(rows, columns, c_stride),
    )  # fmt: skip


@KERNELS.declare
def linear_sums(rows: int, columns: int, depth: int, a: F32, b: F32, shift: F32, c: F32, totals: F64) -> Sizes:
    columns = full(columns)
    return rows * depth, columns * depth, columns, rows * columns, 2 * columns


@KERNELS.declare
def multiply(
    rows: int, columns: int, depth: int, a: F32, a_stride: int, b: F32, b_stride: int, c: F32, c_stride: int
) -> Sizes:
    return Spaced(rows, depth, a_stride), Spaced(depth, columns, b_stride), Spaced(rows, columns, c_stride)


@KERNELS.declare
def outer(rows: int, height: int, width: int, a: F32, a_stride: int, b: F32, b_stride: int, c: F32) -> Sizes:
    return Spaced(rows, height, a_stride), Spaced(rows, width, b_stride), height * width


@KERNELS.declare
def pack(columns: int, depth: int, w: F32, packed: F32) -> Sizes:
    return columns * depth, rounded_up(columns, 32) * depth


@KERNELS.declare
def linear_packed(
    rows: int, columns: int, depth: int, a: F32, a_stride: int, packed: F32, bias: F32 | None, slope: float, c: F32,
    c_stride: int,
) -> Sizes:  # fmt: skip
    return Spaced(rows, depth, a_stride), rounded_up(columns, 32) * depth, columns, Spaced(rows, columns, c_stride)


@KERNELS.declare
def linear_pool_packed(
    rows: int, channels: int, depth: int, clouds: int, ptr: I64, x: F32, x_stride: int, packed: F32, scale: F32,
    shift: F32, slope: float, out: F32, out_stride: int,
) -> Sizes:  # fmt: skip
    x_size, out_size = Spaced(rows, depth, x_stride), Spaced(clouds, 2 * channels, out_stride)
    return clouds + 1, x_size, rounded_up(channels, 32) * depth, channels, channels, out_size


@KERNELS.declare
def linear_pool(
    rows: int, channels: int, depth: int, clouds: int, ptr: I64, x: F32, w: F32, scale: F32, shift: F32, slope: float,
    out: F32,
) -> Sizes:  # fmt: skip
    channels = full(channels)
    return clouds + 1, rows * depth, channels * depth, channels, channels, 2 * clouds * channels


@KERNELS.declare
def pool(
    rows: int, channels: int, clouds: int, ptr: I64, h: F32, scale: F32, shift: F32, slope: float, out: F32,
    winner: I64,
) -> Sizes:  # fmt: skip
    channels = full(channels)
    return clouds + 1, rows * channels, channels, channels, 2 * clouds * channels, clouds * channels


@KERNELS.declare
def pool_reduce(
    rows: int, channels: int, clouds: int, ptr: I64, cloud_of: I64, winner: I64, h: F32, grad: F32, scale: F32,
    shift: F32, mean: F32, slope: float, totals: F64,
) -> Sizes:  # fmt: skip
    channels = full(channels)
    vectors = 3 * (channels,)
    return clouds + 1, rows, clouds * channels, rows * channels, 2 * clouds * channels, *vectors, 2 * channels


@KERNELS.declare
def pool_backward(
    rows: int, channels: int, depth: int, ptr: I64, cloud_of: I64, winner: I64, h: F32, grad: F32, scale: F32,
    shift: F32, mean: F32, first: F32, second: F32, slope: float, x: F32, w: F32, grad_x: F32, grad_w: F32,
) -> Sizes:  # fmt: skip
    channels = full(channels)
    clouds = ptr.numel() - 1 if isinstance(ptr, Tensor) else 0  # the only size that is not an argument
    weights = channels * depth
    return (
        clouds + 1, rows, clouds * channels, rows * channels, 2 * clouds * channels, *(5 * (channels,)),
        rows * depth, weights, rows * depth, weights,
    )  # fmt: skip


# Steps of a recurrent refinement.


@KERNELS.declare
def refine(
    clouds: int, joints: int, channels: int, points: int, k: int, pos: F32, ptr: I64, seen: F32, of_place: F32,
    others: F32, update: F32, update_bias: F32, keep: F32, keep_bias: F32, move: F32, shift: F32, gate: F32,
    before: F32, state: F32, after: F32, next: F32, logit: F32,
) -> Sizes:  # fmt: skip
    channels, rows = full(channels), clouds * joints
    gates, values = rounded_up(3 * channels, 32), rows * channels
    return (
        3 * points, clouds + 1, points * channels, 3 * channels, joints * joints, gates * 2 * channels, gates,
        gates * channels, gates, joints * channels * 4, joints * 4, 2 * channels + 1, 4 * rows, values, 4 * rows,
        values, clouds,
    )  # fmt: skip


# Sums over windows of channels.


@KERNELS.declare
def sliding_sum(rows: int, channels: int, rank: int, x: F32, order: I64 | None, scale: float, out: F32) -> Sizes:
    return rows * channels, channels, rows * rank


@KERNELS.declare
def sliding_spread(rows: int, channels: int, rank: int, grad: F32, order: I64 | None, scale: float, out: F32) -> Sizes:
    return rows * rank, channels, rows * channels
