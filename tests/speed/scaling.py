"""Time and memory of the encoders as clouds and batches grow."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from speed.contenders import own_paths
from speed.encoders import make_encoder, own_calls
from speed.report import aligned

from geo3d.bench.case import Case, Make
from geo3d.bench.inputs import surfaces
from geo3d.bench.memory import peak_bytes
from geo3d.bench.timing import timed

POINTS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
CLOUDS = (1, 2, 4, 8, 16, 32, 64)
DYNAMIC = 16384
"""Most points of a cloud for which DGCNN builds a graph per layer; larger clouds use one graph for all layers."""
SLOW = 2.0
"""Seconds of a call above which two samples are enough."""
COLUMNS = ("encoder", "clouds", "points", "median ms", "ms/cloud", "MB", "MB/cloud")

Row = dict[str, Any]


def cells(points: Sequence[int], clouds: Sequence[int], most: int, base: int) -> list[tuple[int, int]]:
    """(B, N) to measure: one cloud of every size, every batch of ``base`` points, and the largest batches allowed.

    Example:
        >>> cells([512, 1024, 2048], [1, 2, 4], most=4096, base=1024)
        [(1, 512), (1, 1024), (1, 2048), (2, 1024), (2, 2048), (4, 512), (4, 1024)]
    """
    grid = {(min(clouds), size) for size in points} | {(count, base) for count in clouds}
    grid |= {(max(count for count in clouds if count * size <= most), size) for size in points}
    return sorted(cell for cell in grid if cell[0] * cell[1] <= most)


def scaling_case(name: str, num_clouds: int, num_points: int, k: int, path: str) -> Case:
    """One evaluation of an encoder by geo3d alone."""
    encoder = make_encoder(name, k, num_points <= DYNAMIC).eval()
    calls = own_calls(own_paths((path,)), encoder, surfaces(num_clouds, num_points))
    return Case(f"{name}, {num_clouds} x {num_points}", calls, next(iter(calls)), dict, num_clouds)


def scaling(
    points: Sequence[int] = POINTS,
    clouds: Sequence[int] = CLOUDS,
    most: int = 131072,
    k: int = 20,
    path: str = "native",
    repeats: int = 5,
    memory: bool = True,
    only: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> list[Row]:
    """One row per encoder and cell: its sizes, ``median_ms`` and ``peak_mb`` (None without ``memory``).

    Args:
        points: Sizes of the clouds.
        clouds: Sizes of the batch.
        most: Most points in a batch.
        k: Neighbours in DGCNN.
        path: ``"native"`` or ``"torch"``.
        repeats: Timed samples.
        memory: Whether to measure peak memory, each case in a separate process.
        only: Text that the title of a case must contain.
        say: Called with a line of text after each case.
    """
    base = 1024 if 1024 in points else min(points)
    rows = []
    for name in ("DGCNN", "PointNet2"):
        for num_clouds, num_points in cells(points, clouds, most, base):
            make: Make = partial(scaling_case, name, num_clouds, num_points, k, path)
            case = make()
            if only.lower() not in case.title.lower():
                continue
            kind = f"{name}, one graph" if name == "DGCNN" and num_points > DYNAMIC else name
            peak = peak_bytes(make, case.reference, torch.get_num_threads()) / 1e6 if memory else None
            rows.append({"encoder": kind, "clouds": num_clouds, "points": num_points, "peak_mb": peak})
            rows[-1]["median_ms"] = 1e3 * sampled(case, repeats)
            say(f"{kind}, {num_clouds} x {num_points}: {rows[-1]['median_ms']:.1f} ms")
    return rows


def sampled(case: Case, repeats: int) -> float:
    """Median seconds of the reference, which is the only contender timed here."""
    call = case.calls[case.reference]
    first = timed(call, 1)
    return median(timed(call, 1) for _ in range(min(2, repeats) if first > SLOW else repeats))


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The exponent with which costs grow with size: the slope of a line fitted to their logarithms.

    Example:
        >>> round(exponent([1, 2, 4], [3, 12, 48]), 6)
        2.0
    """
    x, y = ([math.log(max(value, 1e-9)) for value in values] for values in (sizes, costs))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    over = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return over / sum((a - mean_x) ** 2 for a in x)


def exponents(rows: Sequence[Row]) -> Iterator[Row]:
    """For each encoder the exponents of time and memory, as points or clouds grow and the other one is fixed."""
    for encoder in dict.fromkeys(row["encoder"] for row in rows):
        own = [row for row in rows if row["encoder"] == encoder]
        for grows, fixed in (("points", "clouds"), ("clouds", "points")):
            held = max({row[fixed] for row in own}, key=lambda value: sum(row[fixed] == value for row in own))
            line = [row for row in own if row[fixed] == held]
            if len({row[grows] for row in line}) < 2:
                continue
            sizes = [row[grows] for row in line]
            fit: Row = {"encoder": encoder, "grows": grows, "of": sizes, "at": f"{fixed}: {held}"}
            for cost in ("median_ms", "peak_mb"):
                known = all(row[cost] is not None for row in line)
                fit[cost] = exponent(sizes, [row[cost] for row in line]) if known else None
            yield fit


def scaling_table(rows: Sequence[Row]) -> str:
    """The rows and the exponents as plain text."""
    lines = [list(COLUMNS)]
    for row in rows:
        count, peak = row["clouds"], row["peak_mb"]
        memory = ["-", "-"] if peak is None else [f"{peak:.0f}", f"{peak / count:.1f}"]
        time = [f"{row['median_ms']:.1f}", f"{row['median_ms'] / count:.2f}"]
        lines.append([row["encoder"], str(count), str(row["points"]), *time, *memory])
    text = ["", *aligned(lines), ""]
    for fit in exponents(rows):
        also = "" if fit["peak_mb"] is None else f", memory as the power {fit['peak_mb']:.2f}"
        span = f"{min(fit['of'])} ... {max(fit['of'])}"
        text.append(
            f"{fit['encoder']}: time grows as the power {fit['median_ms']:.2f} of the {fit['grows']}{also} "
            f"({fit['at']}, {span})"
        )
    return "\n".join(text)
