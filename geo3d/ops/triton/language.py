"""Triton's ``tl``, ``constexpr`` and ``jit`` for the kernels, or stand-ins where Triton is not installed.

With the stand-ins the kernels' modules can be imported but not run.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from geo3d.ops.triton import available

__all__ = ["constexpr", "jit", "power_of_2", "tensor", "tl"]

if TYPE_CHECKING or not available():  # kernels are not really Python: types are not checked
    tl: Any = None
    constexpr: TypeAlias = Any
    tensor: TypeAlias = Any

    def jit(kernel: Callable[..., Any]) -> Any:
        """``kernel`` itself, which cannot be launched."""
        return kernel
else:
    import triton.language as tl
    from triton import jit
    from triton.language import constexpr, tensor


def power_of_2(n: int) -> int:
    """The smallest power of 2 that is at least ``n``, and at least 1.

    Example:
        >>> [power_of_2(n) for n in (0, 1, 5, 64)]
        [1, 1, 8, 64]
    """
    return 1 << max(0, n - 1).bit_length()
