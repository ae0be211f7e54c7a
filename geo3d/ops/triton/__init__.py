"""Kernels for GPUs, written in Triton; float32, on uniform and ragged batches alike.

The modules of this folder (``knn``, ``fps``, ``edge``) can be imported anywhere but run only where :func:`available`
says so: on CUDA tensors, or on CPU tensors in Triton's interpreter (``TRITON_INTERPRET=1``). They never wait for the
GPU, and wrong indices or offsets never make them touch memory outside their tensors. They do not check their
arguments; their callers do. The operators that call them are in :mod:`geo3d.ops.search.knn`,
:mod:`geo3d.ops.search.farthest` and :mod:`geo3d.ops.edge.gather`.
"""

from functools import cache
from importlib.util import find_spec

__all__ = ["available"]


@cache
def available() -> bool:
    """Whether Triton is installed; does not import it."""
    spec = find_spec("triton")
    return spec is not None and spec.origin is not None  # a folder that only shares the name has no origin
