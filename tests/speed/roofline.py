"""Limits of the machine (matrix products of DGCNN's sizes, and copying), and the arithmetic that networks need."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from time import perf_counter
from typing import NamedTuple

import torch

SIZES = ((8192, 512, 1024), (8192, 128, 512), (8192, 64, 128))
"""(rows, inner, outer) of the embedding and of the last and second edge convolutions for 8 clouds of 1,024 points."""


class Roofline(NamedTuple):
    """Measured limits of the machine."""

    gflops: dict[str, float]
    """Size of a float32 matrix product -> 10^9 multiplications and additions per second."""
    copy: float
    """GB per second, bytes read plus bytes written."""

    @property
    def best(self) -> float:
        """The largest rate, of which contenders' rates are reported as fractions."""
        return max(self.gflops.values())


def measured(repeats: int = 7, scale: int = 1) -> Roofline:
    """The limits with torch's number of threads, as medians.

    Args:
        repeats: How many times each is timed.
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
    """Multiplications and additions of all pairwise distances in clouds of these sizes.

    Example:
        >>> knn_flops([10, 20], 3)
        3000.0
    """
    return 2.0 * channels * sum(size * size for size in sizes)


def dgcnn_flops(
    sizes: Sequence[int], k: int, channels: Sequence[int], embedding: int, by_edge: bool, training: bool = False
) -> float:
    """Multiplications and additions of DGCNN: distances, edge convolutions (per edge or per point), embedding.

    In training each layer counts three times: forward, and backward to its input and to its weight.

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
    """Multiplications and additions of linear layers with these ``channels`` on ``rows`` rows.

    Example:
        >>> rows_flops(10, (3, 4, 5))
        640.0
    """
    return 2.0 * rows * sum(inner * outer for inner, outer in pairwise(channels))
