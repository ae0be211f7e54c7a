"""Declarations of the kernels for shared MLPs on grouped rows; see :mod:`geo3d.ops.native.kernels`."""

import torch
from torch import Tensor

from geo3d.ops.native.pointers import F32, I32, I64, ArgumentError, F32s, Kernels, Sizes, told

KERNELS = Kernels()


def _network(
    groups: int, k: int, points: int, of_points: Tensor | None, neighbors: Tensor | None, layers: int, channels: Tensor,
    norms: int,
) -> tuple[tuple[int, ...], list[int], list[int], list[int]]:  # fmt: skip
    """Sizes of the input arrays, channels, sizes of the weights after the first, sizes of ``norms`` vectors a layer."""
    if neighbors is None and of_points is None:
        raise ArgumentError("grouped rows need neighbors or of_points; found neither")
    if channels.dtype != torch.int64 or channels.numel() != layers or layers < 2:
        raise ArgumentError(f"channels must be {layers} int64, at least 2; found {told(channels)}")
    sizes: list[int] = channels.tolist()
    weights = [inner * outer for inner, outer in zip(sizes[:-1], sizes[1:], strict=True)]
    source = points * sizes[0], groups * sizes[0], 3 * points, 3 * groups, 3 * sizes[0], groups * k, groups, layers
    return source, sizes, weights, [size for size in sizes for _ in range(norms)]


def _no_holes(neighbors: Tensor | None, of_points: Tensor | None, *offsets: Tensor | None) -> None:
    """Check that edges have what their rows are made of; ``offsets`` belong together."""
    missing = [each is None for each in offsets]
    if neighbors is not None and any(missing) and not all(missing):
        raise ArgumentError("edges with offsets need positions, centres and the weight of the offsets; found None")
    if neighbors is not None and all(missing) and of_points is None:
        raise ArgumentError("edges to neighbors need of_points or offsets; found neither")


@KERNELS.declare
def grouped_max(
    groups: int, k: int, points: int, of_points: F32 | None, of_groups: F32 | None, pos: F32 | None,
    centers: F32 | None, offset_weight: F32 | None, neighbors: I64 | None, count: I64, layers: int, channels: I64,
    weights: F32s, norms: F32s, eps: float, activated: int, slope: float, out: F32,
) -> Sizes:  # fmt: skip
    _no_holes(neighbors, of_points, pos, centers, offset_weight)
    source, sizes, matrices, vectors = _network(groups, k, points, of_points, neighbors, layers, channels, 5)
    return *source, matrices, vectors, groups * sizes[-1]


@KERNELS.declare
def grouped_train(
    groups: int, k: int, points: int, of_points: F32 | None, of_groups: F32 | None, pos: F32 | None,
    centers: F32 | None, offset_weight: F32 | None, neighbors: I64 | None, count: I64, layers: int, channels: I64,
    weights: F32s, norms: F32s, eps: float, slope: float, top: F32, slot: I32, moments: F32,
) -> Sizes:  # fmt: skip
    _no_holes(neighbors, of_points, pos, centers, offset_weight)
    source, sizes, matrices, vectors = _network(groups, k, points, of_points, neighbors, layers, channels, 2)
    return *source, matrices, vectors, groups * sizes[-1], groups * sizes[-1], 2 * sum(sizes) + sizes[-2]


@KERNELS.declare
def grouped_backward(
    groups: int, k: int, points: int, of_points: F32 | None, of_groups: F32 | None, pos: F32 | None,
    centers: F32 | None, offset_weight: F32 | None, neighbors: I64 | None, count: I64, layers: int, channels: I64,
    weights: F32s, norms: F32s, eps: float, slope: float, top: F32, slot: I32, moments: F32, d_out: F32,
    d_of_points: F32 | None, d_of_groups: F32 | None, d_offset_weight: F32 | None, d_weights: F32s, d_norms: F32s,
) -> Sizes:  # fmt: skip
    _no_holes(neighbors, of_points, pos, centers, offset_weight, d_offset_weight)
    if (of_points is None) != (d_of_points is None) or (of_groups is None) != (d_of_groups is None):
        raise ArgumentError("an input and its gradient must both be arrays or both None; found one of each")
    source, sizes, matrices, vectors = _network(groups, k, points, of_points, neighbors, layers, channels, 2)
    last = groups * sizes[-1]
    return (
        *source, matrices, vectors, last, last, 2 * sum(sizes) + sizes[-2], last, points * sizes[0],
        groups * sizes[0], 3 * sizes[0], matrices, vectors,
    )  # fmt: skip
