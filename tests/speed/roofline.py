"""What the machine can do at most: arithmetic in matrix products of DGCNN's sizes, and copying; and what is asked."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch

SIZES = ((8192, 512, 1024), (8192, 128, 512), (8192, 64, 128))
"""Rows, inner and outer size: the embedding, the last and the second edge convolution for 8 clouds of 1,024 points."""


class Roofline(NamedTuple):
    """Measured limits."""

    gflops: dict[str, float]
    """Size of a float32 matrix product -> thousand million multiplications and additions a second."""
    copy: float
    """GB a second, read and written bytes together."""

    @property
    def best(self) -> float:
        """The largest rate, which shares refer to."""
        return max(self.gflops.values())


def measured(repeats: int = 7, scale: int = 1) -> Roofline:
    """The limits with torch's number of threads, medians.

    Args:
        repeats: How often each is timed.
        scale: Divides the number of rows and the size of the copy, for a quick look.
    """
    rates = {}
    for rows, inner, outer in SIZES:
        rows //= scale
        a, b, out = torch.ones(rows, inner), torch.ones(inner, outer), torch.empty(rows, outer)
        times = []
        for _ in range(repeats + 1):
            start = perf_counter()
            torch.mm(a, b, out=out)
            times.append(perf_counter() - start)
        rates[f"{rows} x {inner} x {outer}"] = 2e-9 * rows * inner * outer / median(times[1:])
    source = torch.ones((64 << 20) // scale)
    target, times = torch.empty_like(source), []
    for _ in range(repeats + 1):
        start = perf_counter()
        target.copy_(source)
        times.append(perf_counter() - start)
    return Roofline(rates, 8e-9 * len(source) / median(times[1:]))


def knn_flops(sizes: Sequence[int], channels: int) -> float:
    """Multiplications and additions of all distances in clouds of the given sizes.

    Example:
        >>> knn_flops([10, 20], 3)
        3000.0
    """
    return 2.0 * channels * sum(size * size for size in sizes)


def dgcnn_flops(
    sizes: Sequence[int], k: int, channels: Sequence[int], embedding: int, by_edge: bool, training: bool = False
) -> float:
    """Those of DGCNN: distances, edge convolutions (for each edge, or for each point), embedding.

    Training counts each layer three times: forward, and backward to its input and to its weight.

    Example:
        >>> round(dgcnn_flops([1024], 20, (3, 64, 64, 128, 256), 1024, by_edge=False) / 1e9, 2)
        1.8
        >>> round(dgcnn_flops([1024], 20, (3, 64, 64, 128, 256), 1024, by_edge=True) / 1e9, 2)
        5.32
    """
    points = sum(sizes)
    rows = points * k if by_edge else points
    layers = 2.0 * points * sum(channels[1:]) * embedding
    layers += sum(4.0 * rows * inner * outer for inner, outer in pairwise(channels))
    distances = sum(knn_flops(sizes, inner) for inner in channels[:-1])
    return distances + layers * (3 if training else 1)


def rows_flops(rows: float, channels: Sequence[int]) -> float:
    """Those of linear layers of the given sizes on so many rows.

    Example:
        >>> rows_flops(10, (3, 4, 5))
        640.0
    """
    return 2.0 * rows * sum(inner * outer for inner, outer in pairwise(channels))
