"""Whether coordinates fit into float32, geo3d's type for them, and a shift to the origin if they do not."""

import math

import numpy as np

from geo3d.errors import CloudError

LIMIT = float(np.finfo(np.float32).max)
FINEST = 1000
"""A type must have at least this many steps along the longest side of a cloud."""
KEPT = 10_000
"""A cloud is shifted to the origin if float32 has fewer steps than this along its longest side."""


def check_precision(pos: np.ndarray, source: str) -> None:
    """Check that float32 can hold the coordinates (N, 3) without losing the shape.

    Map coordinates lie around 5 million metres, where float32 has steps of half a metre: a chair would become a few
    points. Values that are not finite, and clouds whose points all coincide, are left to other checks.

    Raises:
        CloudError: If float32's step at the largest magnitude exceeds a thousandth of the cloud's longest side, or a
            coordinate is beyond float32's range.

    Example:
        >>> check_precision(np.array([[5e6, 0, 0], [5e6 + 1, 0, 0]]), "map.xyz")
        Traceback (most recent call last):
        geo3d.errors.CloudError: map.xyz: the coordinates reach 5000001 over an extent of 1, and float32 has steps of \
0.5 there; subtract an offset from the coordinates first
    """
    low, high = _box(pos)
    magnitude, extent = _magnitude(low, high), _extent(low, high)
    reach = f"{source}: the coordinates reach {magnitude:.10g} over an extent of {extent:.4g}"
    if magnitude > LIMIT:
        cure = "scale them down, or subtract an offset from the coordinates first"
        raise CloudError(f"{reach}, and float32 ends at {LIMIT:.4g}; {cure}")
    step = _step(magnitude, np.dtype(np.float32))
    if extent > 0 and step * FINEST > extent:
        cure = "subtract an offset from the coordinates first"
        raise CloudError(f"{reach}, and float32 has steps of {step:.4g} there; {cure}")


def centered(pos: np.ndarray, source: str) -> tuple[np.ndarray, np.ndarray | None]:
    """(N, 3) coordinates that float32 can hold, and the float64 origin (3,) that was subtracted, or None.

    Nothing is subtracted if float32 loses at most a ten-thousandth of the longest side. Otherwise the centre of the
    bounding box is subtracted in double precision.

    Raises:
        CloudError: If the stored type of the coordinates has already lost the shape, or the cloud is too large for
            float32.

    Example:
        >>> pos, origin = centered(np.array([[5e6, 0, 0], [5e6 + 1, 0, 0]]), "map.xyz")
        >>> pos.tolist(), origin.tolist()
        ([[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0]], [5000000.5, 0.0, 0.0])
    """
    low, high = _box(pos)
    magnitude, extent = _magnitude(low, high), _extent(low, high)
    if extent == 0 and magnitude <= LIMIT or _step(magnitude, np.dtype(np.float32)) * KEPT <= extent:
        check_precision(pos, source)  # so large an extent may exceed float32's range
        return pos, None
    kind = pos.dtype if pos.dtype.kind == "f" else np.dtype(np.float64)  # integers are exact up to 53 bits
    if extent > 0 and _step(magnitude, kind) * FINEST > extent:
        reach = f"the coordinates reach {magnitude:.10g} over an extent of {extent:.4g}"
        cure = "subtract an offset from the coordinates before they are stored"
        raise CloudError(f"{source}: {reach}, and {kind} has steps of {_step(magnitude, kind):.4g} there; {cure}")
    origin = low / 2 + high / 2
    moved = pos.astype(np.float64) - origin
    check_precision(moved, source)
    return moved, origin


def _box(pos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest corner (3,) float64 of the box around the finite points; zeros if there are none."""
    finite = pos[np.isfinite(pos).all(1)]
    if not len(finite):
        return np.zeros(3), np.zeros(3)
    return finite.min(0).astype(np.float64), finite.max(0).astype(np.float64)


def _magnitude(low: np.ndarray, high: np.ndarray) -> float:
    return float(np.maximum(np.abs(low), np.abs(high)).max())


def _extent(low: np.ndarray, high: np.ndarray) -> float:
    with np.errstate(over="ignore"):  # the difference overflows for the two ends of float64's range
        return float((high - low).max())


def _step(magnitude: float, kind: np.dtype) -> float:
    """The distance between neighbouring numbers of a floating-point type at a magnitude."""
    places, least = np.finfo(kind).nmant + 1, float(np.finfo(kind).smallest_subnormal)
    return max(math.ldexp(1.0, math.frexp(magnitude)[1] - places), least)
