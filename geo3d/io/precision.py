"""Whether coordinates survive float32, in which geo3d holds them."""

import math

import numpy as np

from geo3d.errors import CloudError

LIMIT = float(np.finfo(np.float32).max)
FINEST = 1000
"""float32 must tell at least so many places apart along the longest side of a cloud."""


def check_precision(pos: np.ndarray, source: str) -> None:
    """Nothing, if float32 can hold the coordinates (N, 3) without losing the shape.

    Coordinates of a map lie around 5 million metres, where float32 knows halves of a metre only: a chair would become
    a few points. Values that are not finite, and clouds whose points lie in one place, are left to other checks.

    Raises:
        CloudError: If float32's step at the largest magnitude exceeds a thousandth of the cloud's longest side, or a
            coordinate is beyond float32's range.

    Example:
        >>> check_precision(np.array([[5e6, 0, 0], [5e6 + 1, 0, 0]]), "map.xyz")
        Traceback (most recent call last):
        geo3d.errors.CloudError: map.xyz: the coordinates reach 5000001 over an extent of 1, and float32 has steps of \
0.5 there; subtract an offset from the coordinates first
    """
    finite = pos[np.isfinite(pos).all(1)]
    if not len(finite):
        return
    low, high = finite.min(0).astype(np.float64), finite.max(0).astype(np.float64)
    magnitude = float(np.maximum(np.abs(low), np.abs(high)).max())
    with np.errstate(over="ignore"):  # the two ends of float64's range are further apart than it can say
        extent = float((high - low).max())
    reach = f"{source}: the coordinates reach {magnitude:.10g} over an extent of {extent:.4g}"
    if magnitude > LIMIT:
        cure = "scale them down, or subtract an offset from the coordinates first"
        raise CloudError(f"{reach}, and float32 ends at {LIMIT:.4g}; {cure}")
    step = max(2.0 ** (math.frexp(magnitude)[1] - 24), 2.0**-149)  # 24 bits hold a number, the last place is the step
    if extent > 0 and step * FINEST > extent:
        cure = "subtract an offset from the coordinates first"
        raise CloudError(f"{reach}, and float32 has steps of {step:.4g} there; {cure}")
