"""What one wants to know of a cloud before anything else: size, spacing, duplicates, a guess of its unit and its up."""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

SAMPLE = 100_000
"""Points among which spacing is measured, and with which the up axis is guessed."""
LAYER, CLEAR = 0.02, 1.6
"""Thickness of a floor or a top in extents, and how many times as many points as other sides it has."""


class Statistics(NamedTuple):
    """Figures of one cloud."""

    size: int
    """N, how many points there are."""
    low: np.ndarray
    """(3,) lowest coordinates."""
    extent: np.ndarray
    """(3,) sides of the box along the axes."""
    spacing: float
    """Median distance from a point to the nearest other one; estimated for more than 100,000 points; 0 for one."""
    duplicates: int
    """Points that lie exactly where an earlier one does."""
    scale: str
    """What the extent suggests about the unit, in words."""
    up: str
    """The axis that seems to be upright: x, y or z; empty if none stands out."""

    @property
    def density(self) -> float:
        """Points for each square of one unit, on a surface with this spacing; infinite if points coincide."""
        return 1 / (4 * self.spacing**2) if self.spacing > 0 else float("inf")


def statistics_of(pos: np.ndarray, seed: int = 0) -> Statistics:
    """Statistics of a cloud.

    Args:
        pos: (N, 3) finite coordinates, at least one.
        seed: Of the sample that stands for a large cloud.

    Example:
        >>> s = statistics_of(np.array([[0, 0, 0], [1, 0, 0], [1, 0, 0], [3, 0, 0.0]]))
        >>> s.size, s.extent.tolist(), s.duplicates
        (4, [3.0, 0.0, 0.0], 1)
    """
    pos = np.asarray(pos)
    low, extent = pos.min(0).astype(np.float64), np.ptp(pos, axis=0).astype(np.float64)
    rng = np.random.default_rng(seed)
    sample = pos if len(pos) <= SAMPLE else pos[rng.choice(len(pos), SAMPLE, replace=False)]
    sample = sample.astype(np.float64)
    return Statistics(len(pos), low, extent, _spacing(sample, len(pos)), _duplicates(pos), _scale(pos), _up(sample))


def _spacing(sample: np.ndarray, count: int) -> float:
    """Median distance to the nearest point elsewhere; of points on a surface it falls with the root of their number."""
    different = np.unique(sample, axis=0)
    if len(different) < 2:
        return 0.0
    nearest = cKDTree(different).query(different, k=2)[0][:, 1]
    return float(np.median(nearest) * np.sqrt(len(sample) / count))


def _duplicates(pos: np.ndarray) -> int:
    """How many points lie exactly where an earlier one does.

    Points are compared by 64 bits mixed from their coordinates: sorting numbers is many times faster than sorting rows,
    and for ten million points two different ones agree with a probability of 3 in a million.
    """
    bits = np.ascontiguousarray(pos + 0.0, dtype=np.float64).view(np.uint64)  # + 0.0 makes one zero of two
    mixed = np.zeros(len(pos), dtype=np.uint64)
    for column in bits.T:
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(32)
    mixed.sort()  # np.unique takes a hundred times as long
    return int((mixed[1:] == mixed[:-1]).sum())


def _scale(pos: np.ndarray) -> str:
    """What the size of a cloud suggests; a guess, said as one."""
    middle, size = pos.mean(0, dtype=np.float64), float(np.ptp(pos, axis=0).max())
    radius = float(np.sqrt(np.square(pos - middle).sum(1).max()))  # in float64, whose squares do not overflow
    if size == 0:
        return "all points coincide"
    if abs(radius - 1) < 1e-3 and np.abs(middle).max() < 1e-3:
        return "scaled to the unit sphere"
    if 0.05 <= size <= 200:
        return "may be metres" if size > 2.5 else "metres, or scaled to a box"
    return "may be millimetres" if 200 < size <= 200_000 else "of a unit that is not clear"


def _up(sample: np.ndarray) -> str:
    """The axis of which one side has most points in a thin layer, as a floor or a top has, if it clearly has more."""
    extent = np.ptp(sample, axis=0)
    if len(sample) < 50 or extent.min() <= 0:
        return ""
    place = (sample - sample.min(0)) / extent
    best = np.maximum((place < LAYER).mean(0), (place > 1 - LAYER).mean(0))
    axis = int(best.argmax())
    return "xyz"[axis] if best[axis] > CLEAR * max(np.delete(best, axis).max(), LAYER) else ""
